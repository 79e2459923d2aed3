//! Questions to the service itself: does somebody answer at its address?
//!
//! `tcp://host:port` connects; `http://host:port/path` asks and wants a 2xx or 3xx. A name is
//! resolved anew for every question, as a client that follows DNS would. `SITE=tcp://…` speaks for
//! one site: its own address, not the service's; two such sites that answer at once are an overlap.

use std::fmt;
use std::str::FromStr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::limits::{HTTP_HEAD, PROBE_WAIT};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The site that it speaks for.
    pub(super) site: Option<String>,
    address: String,
    /// For HTTP.
    path: Option<String>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write [SITE=]tcp://HOST:PORT or [SITE=]http://HOST:PORT/PATH";
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(format!("a target has no spaces and control characters in it; {FORM}"));
        }
        let (head, rest) = text.split_once("://").ok_or(FORM)?;
        let (site, scheme) = match head.split_once('=') {
            Some((site, scheme)) if !site.is_empty() => (Some(site.to_owned()), scheme),
            Some(_) => return Err(FORM.to_owned()),
            None => (None, head),
        };
        let (address, path) = match (scheme, rest.split_once('/')) {
            ("tcp", None) => (rest, None),
            ("http", Some((address, path))) => (address, Some(format!("/{path}"))),
            ("http", None) => (rest, Some("/".to_owned())),
            ("tcp", Some(_)) => return Err(format!("tcp has no path; {FORM}")),
            _ => return Err(format!("{scheme:?} is not spoken here; {FORM}")),
        };
        let port = address.rsplit_once(':').and_then(|(_, p)| p.parse::<u16>().ok());
        match port {
            Some(1..) => Ok(Self { site, address: address.to_owned(), path }),
            _ => Err(format!("{address:?} has no port; {FORM}")),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(site) = &self.site {
            write!(f, "{site}=")?;
        }
        match &self.path {
            Some(path) => write!(f, "http://{}{path}", self.address),
            None => write!(f, "tcp://{}", self.address),
        }
    }
}

impl Target {
    /// Asks once.
    pub(super) async fn ask(&self) -> Result<(), String> {
        let late = |_| format!("no answer within {} ms", PROBE_WAIT.as_millis());
        timeout(PROBE_WAIT, self.exchange()).await.map_err(late)?.map_err(|e| e.to_string())
    }

    async fn exchange(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let Some(path) = &self.path else { return Ok(()) };
        let question = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: tierce-drill\r\n\
             Connection: close\r\n\r\n",
            self.address
        );
        stream.write_all(question.as_bytes()).await?;
        let mut head = Vec::new();
        let mut chunk = [0; HTTP_HEAD];
        while head.len() < HTTP_HEAD && !head.contains(&b'\n') {
            match stream.read(&mut chunk).await? {
                0 => break,
                n => head.extend_from_slice(&chunk[..n]),
            }
        }
        is_good(&head).map_err(std::io::Error::other)
    }
}

fn is_good(head: &[u8]) -> Result<(), String> {
    let line = String::from_utf8_lossy(head);
    let line = line.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let version = words.next().unwrap_or_default();
    let status: Option<u16> = words.next().and_then(|w| w.parse().ok());
    match status {
        Some(200..=399) if version.starts_with("HTTP/1.") => Ok(()),
        Some(status) if version.starts_with("HTTP/1.") => Err(format!("HTTP status {status}")),
        _ => Err("its answer is no HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_and_written_the_same() {
        for text in ["tcp://web.example:80", "http://[::1]:8080/health", "rome=tcp://10.0.0.2:80"] {
            assert_eq!(text.parse::<Target>().map(|t| t.to_string()).as_deref(), Ok(text));
        }
        let bare: Target = "http://web:80".parse().unwrap();
        assert_eq!(bare.to_string(), "http://web:80/");
        let bad = ["web:80", "ftp://web:80", "tcp://web", "tcp://web:0", "tcp://web:80/x"];
        for text in bad.into_iter().chain(["=tcp://web:80", "http://w:80/a b", "tcp://w:99999"]) {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_good_status_of_http_is_an_answer() {
        assert_eq!(is_good(b"HTTP/1.1 204 No Content\r\n"), Ok(()));
        assert_eq!(is_good(b"HTTP/1.0 302 Found\r\n"), Ok(()));
        for bad in
            [&b"HTTP/1.1 503 No\r\n"[..], b"SSH-2.0 200 x\r\n", b"", b"HTTP/1.1\r\n", b"\xff"]
        {
            assert!(is_good(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_service_is_asked_over_both_and_one_that_is_gone_is_no_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            for status in ["200 OK", "500 No"] {
                let (mut s, _) = listener.accept().await.unwrap();
                let mut question = [0; 512];
                let _ = s.read(&mut question).await.unwrap();
                s.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
            }
            let _ = listener.accept().await.unwrap();
        });
        let http: Target = format!("http://{at}/x").parse().unwrap();
        assert_eq!(http.ask().await, Ok(()));
        assert_eq!(http.ask().await.unwrap_err(), "HTTP status 500");
        let tcp: Target = format!("tcp://{at}").parse().unwrap();
        assert_eq!(tcp.ask().await, Ok(()));
        served.await.unwrap();
        assert!(tcp.ask().await.is_err());
    }
}
