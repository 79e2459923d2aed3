//! Inputs of a fuzz target: the fuzzer's bytes as they are, and the same bytes as a script that
//! damages a sample.
//!
//! Random bytes hardly ever get behind a magic number or a length, and a target that only sees its
//! first check tests nothing. So each target gives samples of what it reads (the golden bytes of its
//! format), and every input is tried twice. An input of one byte is a whole sample, so the samples
//! are in the corpus by construction and follow the format by themselves.
//!
//! A script: which sample, how many edits, then for each edit its kind, where (two bytes), what.

/// More edits than this leave nothing of the sample.
const MAX_EDITS: u8 = 8;

/// What to try for one input of the fuzzer.
pub fn inputs(samples: &[Vec<u8>], bytes: &[u8]) -> [Vec<u8>; 2] {
    [bytes.to_vec(), damaged(samples, bytes)]
}

/// One of the samples, edited as the script says. Total; without samples, nothing.
pub fn damaged(samples: &[Vec<u8>], script: &[u8]) -> Vec<u8> {
    let mut script = script.iter().copied();
    let which = usize::from(script.next().unwrap_or(0));
    let Some(sample) = samples.get(which % samples.len().max(1)) else { return Vec::new() };
    let mut out = sample.clone();
    for _ in 0..script.next().unwrap_or(0) % (MAX_EDITS + 1) {
        let mut next = || script.next().unwrap_or(0);
        let (kind, at, value) = (next(), u16::from_le_bytes([next(), next()]), next());
        edit(&mut out, kind, usize::from(at), value);
    }
    out
}

fn edit(bytes: &mut Vec<u8>, kind: u8, at: usize, value: u8) {
    if bytes.is_empty() {
        return bytes.push(value);
    }
    let at = at % bytes.len();
    match kind % 8 {
        0 => bytes[at] = value,
        1 => bytes[at] ^= 1 << (value % 8),
        // What lengths and counts break on.
        2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][usize::from(value) % 6],
        3 => bytes.insert(at, value),
        4 => drop(bytes.remove(at)),
        5 => bytes.truncate(at),
        6 => bytes[at..].iter_mut().take(4).for_each(|b| *b = 0xff),
        _ => {
            let piece = bytes[at..].iter().copied().take(usize::from(value)).collect::<Vec<_>>();
            bytes.splice(at..at, piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_of_one_byte_is_a_sample_and_every_edit_keeps_within_bounds() {
        let samples = vec![b"first".to_vec(), b"second".to_vec()];
        assert_eq!(damaged(&samples, &[1]), b"second");
        assert_eq!(damaged(&samples, &[]), b"first");
        assert_eq!(damaged(&[], &[1, 2, 3]), b"");
        for kind in 0..=255 {
            for at in [0, 1, 255] {
                for value in [0, 1, 255] {
                    let out = damaged(&samples, &[0, 3, kind, at, at, value, kind, at, 0, value]);
                    assert!(out.len() <= 5 + 3 * 255 * 4, "{}", out.len());
                }
            }
        }
    }
}
