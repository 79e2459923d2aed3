//! How elements, lists and suggestions are worded.

use crate::xml::Element;

/// An element with what tells it from others: `<primitive id="db">`.
pub(crate) fn name_of(element: Element<'_>) -> String {
    let name = element.name();
    for key in ["id", "id-ref", "uname", "name"] {
        if let Some(value) = element.attr(key) {
            return format!("<{name} {key}={value:?}>");
        }
    }
    format!("<{name}>")
}

/// The nearest of the known words, if it is near enough to be what was meant.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let far = 1 + word.chars().count() / 4;
    known
        .into_iter()
        .map(|known| (strsim::osa_distance(word, known), known))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// "did you mean X?"
pub(crate) fn suggest(word: &str, known: &[&str]) -> Option<String> {
    nearest(word, known.iter().copied()).map(|near| format!("did you mean {near}?"))
}

/// Words between commas; of many only the first.
pub(crate) fn list(words: &[&str]) -> String {
    const MOST: usize = 20;
    if words.is_empty() {
        return "none".to_owned();
    }
    let shown = words[..words.len().min(MOST)].join(", ");
    if words.len() > MOST { format!("{shown}, …") } else { shown }
}
