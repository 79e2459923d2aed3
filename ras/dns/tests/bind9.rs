//! The fenced update against a real BIND 9: what the embedded authority claims, a real one does.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{address_of, addresses_at, claim, name, race, signed, site_name, soon};
use tierce_dns::error::TsigFault;
use tierce_dns::{DnsError, Key, RecordType, ResponseCode, Term, query};

const NAMED: &str = "/usr/sbin/named";
const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlYzE=";

/// A name server of our own in a directory of our own; it ends with the test.
struct Named {
    child: Child,
    addr: SocketAddr,
    dir: tempfile::TempDir,
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts BIND with one zone; `None` when it is not installed (and that is allowed).
async fn named(allow_update: &str) -> Option<Named> {
    if !Path::new(NAMED).exists() {
        assert!(std::env::var("TIERCE_TESTS_STRICT").as_deref() != Ok("1"), "{NAMED} is missing");
        eprintln!("SKIPPED: {NAMED} is not installed (Debian package bind9)");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let addr = free_port();
    let port = addr.port();
    let path = dir.path().display();
    let config = format!(
        r#"
key "site." {{ algorithm hmac-sha256; secret "{SECRET}"; }};
options {{
    directory "{path}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    pid-file "{path}/named.pid";
    session-keyfile "{path}/session.key";
    managed-keys-directory "{path}";
    recursion no;
    notify no;
    dnssec-validation no;
    allow-transfer {{ none; }};
}};
controls {{ }};
zone "demo.test" {{
    type primary;
    file "{path}/demo.zone";
    allow-update {{ {allow_update} }};
}};
"#
    );
    let zone = "$TTL 1\n@ SOA ns hostmaster 1 60 60 3600 1\n@ NS ns\nns A 127.0.0.1\n";
    std::fs::write(dir.path().join("named.conf"), config).unwrap();
    std::fs::write(dir.path().join("demo.zone"), zone).unwrap();
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let child = Command::new(NAMED)
        .arg("-g")
        .arg("-c")
        .arg(dir.path().join("named.conf"))
        .args(["-n", "2"])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let named = Named { child, addr, dir };
    for _ in 0..200 {
        let soon = tokio::time::Instant::now() + Duration::from_millis(200);
        if let Ok(answer) = query(addr, &name("demo.test."), RecordType::SOA, soon).await
            && answer.code == ResponseCode::NoError
        {
            return Some(named);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let log = std::fs::read_to_string(named.dir.path().join("log")).unwrap_or_default();
    panic!("named did not come up:\n{log}");
}

fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = tcp.local_addr().unwrap();
        if UdpSocket::bind(addr).is_ok() {
            return addr;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_two_hundred_four_way_races_on_bind_no_term_has_two_winners() {
    let Some(named) = named("127.0.0.1;").await else { return };
    let mut overtaken = 0;
    for round in 0..200_u64 {
        let base = 1 + round * 4;
        let terms = match round % 3 {
            0 => [base; 4],
            1 => [base, base + 1, base + 2, base + 3],
            _ => [base + 1, base, base + 1, base],
        };
        overtaken += usize::from(race(named.addr, terms, None).await.len() > 1);
    }
    println!("200 races, 0 double winners, {overtaken} rounds with an older term overtaken");
    assert!(overtaken > 0, "no newer term ever replaced an older one within a round");

    // And another program sees what we wrote.
    let dig = Command::new("dig")
        .args(["+short", "+tries=1", "-p", &named.addr.port().to_string(), "@127.0.0.1"])
        .args(["www.demo.test", "A", "_ticket.www.demo.test", "TXT"])
        .output();
    if let Ok(dig) = dig {
        let text = String::from_utf8_lossy(&dig.stdout);
        let address = addresses_at(named.addr).await[0];
        assert!(text.contains(&address.to_string()), "dig says {text}");
        assert!(text.contains("v=1 term=800 "), "dig says {text}");
    } else {
        eprintln!("SKIPPED: dig is not installed (Debian package bind9-dnsutils)");
    }
}

#[tokio::test]
async fn bind_accepts_our_signature_and_its_refusals_are_told_apart() {
    let Some(named) = named("key \"site.\";").await else { return };
    let server = named.addr;
    let key = Key::from_base64("site.", SECRET).unwrap();

    let unsigned = claim(server, 0, 1).apply(soon()).await;
    assert_eq!(unsigned, Err(DnsError::Refused { server, code: ResponseCode::Refused }));
    let wrong = Key::new("site.", &[9; 32]).unwrap();
    let outcome = signed(claim(server, 0, 1), &wrong).apply(soon()).await;
    assert_eq!(outcome, Err(DnsError::Signature { server, fault: TsigFault::WrongSecret }));
    let stranger = Key::new("other.", &[9; 32]).unwrap();
    let outcome = signed(claim(server, 0, 1), &stranger).apply(soon()).await;
    assert_eq!(outcome, Err(DnsError::Signature { server, fault: TsigFault::UnknownKey }));

    signed(claim(server, 0, 1), &key).apply(soon()).await.unwrap();
    signed(claim(server, 1, 2), &key).apply(soon()).await.unwrap();
    let late = signed(claim(server, 0, 1), &key).apply(soon()).await;
    assert_eq!(late, Err(DnsError::Superseded { term: Term(2), site: site_name(1) }));
    assert_eq!(addresses_at(server).await, [address_of(1)]);
}

#[tokio::test]
async fn a_zone_that_bind_does_not_have_is_refused_by_name() {
    let Some(named) = named("127.0.0.1;").await else { return };
    let mut update = claim(named.addr, 0, 1);
    update.zone = name("other.test.");
    update.name = name("www.other.test.");
    let outcome = update.apply(soon()).await;
    assert!(matches!(outcome, Err(DnsError::Refused { .. })), "{outcome:?}");
}
