//! What is wrong with a single value of the file, in words that continue "the address …".

use tierce_ticket::limits;

/// What is wrong with `host:port`.
pub(super) fn address_fault(a: &str) -> Option<&'static str> {
    if a.len() > limits::ADDRESS_BYTES {
        return Some("is too long");
    }
    let Some((host, port)) = a.rsplit_once(':') else { return Some("has no port") };
    if port.parse::<u16>().is_ok_and(|p| p > 0) {
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        match bracketed {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_err() => Some("is not an IPv6 address"),
            None if host.is_empty() => Some("has no host"),
            None if host.contains(':') => Some("has an IPv6 address without brackets"),
            None if !host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) =>
            {
                Some("has a host name with characters that none has")
            }
            _ => None,
        }
    } else {
        Some("has no port from 1 to 65535")
    }
}

/// What is wrong with the name of a resource agent. Names become parts of paths: no `/`, no `..`.
pub(super) fn agent_fault(agent: &str) -> Option<&'static str> {
    let mut parts = agent.split(':');
    let class = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let plain = |p: &&str| {
        let ok =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@' | b'\\');
        !p.is_empty() && p.bytes().all(ok) && !p.starts_with('.')
    };
    let want = match class {
        "ocf" => 2,
        "lsb" | "systemd" | "service" => 1,
        _ => return Some("is of no known class"),
    };
    if rest.len() != want {
        return Some("has the wrong number of parts");
    }
    (!rest.iter().all(plain)).then_some("has a part that is empty or could leave its directory")
}
