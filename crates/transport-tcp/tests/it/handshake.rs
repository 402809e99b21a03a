use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_transport::net::ConnectionLimits;
use downbeat_transport::{
    Admission, AdmissionRefusal, AdmissionRequest, Admitted, ApiKey, Connector, Listener,
    TransportCounters, TransportError,
};
use downbeat_transport_tcp::{TcpConnector, TcpListener, TcpOptions};

use crate::raw::{MAGIC, RawClient, accept_nothing, hello, with_head};

/// What a server with these options answers to these bytes, up to the end of the connection.
async fn ask(options: TcpOptions, bytes: &[u8]) -> Vec<u8> {
    let mut listener = TcpListener::bind("127.0.0.1:0", options).await.unwrap();
    let mut client = RawClient::connect(&listener).await;
    let asking = async {
        client.write(bytes).await;
        client.read_all().await
    };
    tokio::select! {
        answer = asking => answer,
        end = accept_nothing(&mut listener) => end,
    }
}

/// The status, version and text of a refusal.
fn refusal(answer: &[u8]) -> (u8, u8, u32, &str) {
    assert!(answer.starts_with(MAGIC), "{answer:?}");
    let wait = u32::from_be_bytes(answer[12..16].try_into().unwrap());
    (answer[8], answer[9], wait, std::str::from_utf8(&answer[16..]).unwrap())
}

#[tokio::test]
async fn both_sides_learn_each_others_names_and_the_server_the_key() {
    let options = |name: &str| TcpOptions { name: name.to_owned(), ..TcpOptions::default() };
    let mut listener = TcpListener::bind("127.0.0.1:0", options("core")).await.unwrap();
    let url = format!("{}?key=you%40example.com", listener.url());
    let connector = TcpConnector::new(&url, options("edge\n1")).unwrap();
    let (client, server) = tokio::join!(connector.connect(), listener.accept());
    let (client, server) = (client.unwrap().info, server.unwrap().info);
    assert_eq!(client.name.as_deref(), Some("core"));
    assert_eq!(client.address, listener.url(), "without the key");
    assert_eq!(server.name.as_deref(), Some("edge1"), "without the line break");
    assert_eq!(server.key.as_ref().map(ApiKey::expose), Some("you@example.com"));
    assert!(server.address.starts_with("127.0.0.1:"), "{}", server.address);
    assert_eq!(server.remote, Some("127.0.0.1".parse().unwrap()));
}

#[tokio::test]
async fn another_version_is_refused_with_both_sides_versions() {
    let mut bytes = hello("later", "");
    bytes[8..10].copy_from_slice(&[2, 7]);
    let answer = ask(TcpOptions::default(), &bytes).await;
    let (status, version, _, text) = refusal(&answer);
    assert_eq!((status, version), (1, 1));
    assert!(text.contains("version 1 of") && text.contains("2 to 7"), "{text}");
    // A client that speaks later versions as well is welcome.
    let mut listener = TcpListener::bind("127.0.0.1:0", TcpOptions::default()).await.unwrap();
    let mut client = RawClient::connect(&listener).await;
    bytes[8..10].copy_from_slice(&[0, 7]);
    client.write(&bytes).await;
    let (answer, server) = tokio::join!(client.read_answer(), listener.accept());
    server.unwrap();
    assert_eq!(answer.0, [0, 1]);
}

#[tokio::test]
async fn what_a_later_client_adds_to_its_hello_is_ignored() {
    let mut listener = TcpListener::bind("127.0.0.1:0", TcpOptions::default()).await.unwrap();
    let mut client = RawClient::connect(&listener).await;
    let plain = hello("raw", "");
    let body = [&plain[12..], b"and more"].concat();
    client.write(&with_head([1, 1], &body)).await;
    let (answer, server) = tokio::join!(client.read_answer(), listener.accept());
    server.unwrap();
    assert_eq!(answer.0, [0, 1]);
}

#[tokio::test]
async fn a_hello_that_is_none_is_refused_and_counted() {
    let short = with_head([1, 1], &hello("raw", "key")[12..15]);
    let role = with_head([1, 1], &[9, 0, 0, 0, 0, 0, 0, 0]);
    let name = with_head([1, 1], &[0, 0, 0, 0, 0, 1, 0xFF, 0, 0]);
    let key = with_head([1, 1], &[0, 0, 0, 0, 0, 0, 0, 1, 0xFF]);
    let http = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    let tls = vec![0x16, 3, 1, 2];
    for bytes in [short, role, name, key, http, tls] {
        let options = TcpOptions::default();
        let counters = Arc::clone(&options.counters);
        let answer = ask(options, &bytes).await;
        assert_eq!(refusal(&answer).0, 2, "{bytes:?}");
        assert_eq!(counters.snapshot().handshakes_malformed, 1);
    }
    let options = TcpOptions::default();
    let counters = Arc::clone(&options.counters);
    let huge = [MAGIC, &[1, 1, 0xFF, 0xFF]].concat();
    assert_eq!(refusal(&ask(options, &huge).await).0, 2);
    assert_eq!(counters.snapshot().handshakes_too_large, 1);
}

struct Keys;

impl Admission for Keys {
    fn admit(&self, request: &AdmissionRequest<'_>) -> Result<Admitted, AdmissionRefusal> {
        match request.key.map(ApiKey::expose) {
            Some("good") => Ok(Admitted::labelled("the good one")),
            Some("revoked") => Err(AdmissionRefusal::forbidden("this key was revoked")),
            Some("busy") => {
                Err(AdmissionRefusal::too_many("too fast", Duration::from_millis(2_500)))
            }
            Some(_) => Err(AdmissionRefusal::unauthorized("this key is not known here")),
            None => Err(AdmissionRefusal::unauthorized("a key is needed")),
        }
    }
}

#[tokio::test]
async fn keys_are_judged_before_the_connection_exists() {
    let options = TcpOptions { admission: Some(Arc::new(Keys)), ..TcpOptions::default() };
    let counters = Arc::clone(&options.counters);
    for (key, expected) in [
        ("", (3, 1, 0, "a key is needed")),
        ("bad", (3, 1, 0, "this key is not known here")),
        ("revoked", (4, 1, 0, "this key was revoked")),
        ("busy", (5, 1, 2, "too fast")),
    ] {
        let answer = ask(options.clone(), &hello("raw", key)).await;
        assert_eq!(refusal(&answer), expected);
    }
    let mut listener = TcpListener::bind("127.0.0.1:0", options).await.unwrap();
    let url = format!("{}?key=good", listener.url());
    let connector = TcpConnector::new(&url, TcpOptions::default()).unwrap();
    let (client, server) = tokio::join!(connector.connect(), listener.accept());
    client.unwrap();
    assert_eq!(server.unwrap().info.label.as_deref(), Some("the good one"));
    let seen = counters.snapshot();
    assert_eq!((seen.refused_unauthorized, seen.refused_forbidden), (2, 1));
    assert_eq!((seen.refused_too_many, seen.accepted), (1, 1));
}

#[tokio::test]
async fn a_connector_says_why_it_was_refused_and_never_the_key() {
    let options = TcpOptions { admission: Some(Arc::new(Keys)), ..TcpOptions::default() };
    let mut listener = TcpListener::bind("127.0.0.1:0", options).await.unwrap();
    let url = format!("{}?key=revoked", listener.url());
    let connector = TcpConnector::new(&url, TcpOptions::default()).unwrap();
    let refused = tokio::select! {
        refused = connector.connect() => refused,
        end = accept_nothing(&mut listener) => end,
    };
    match refused {
        Err(TransportError::Refused { reason }) => {
            assert_eq!(reason, "forbidden: this key was revoked");
        }
        other => panic!("{other:?}"),
    }
    assert!(!connector.name().contains("revoked"));
}

#[tokio::test]
async fn connections_in_all_and_from_an_address_are_limited() {
    for (limits, status) in [
        (ConnectionLimits { total: 1, ..ConnectionLimits::default() }, 6),
        (ConnectionLimits { per_address: 1, ..ConnectionLimits::default() }, 5),
    ] {
        let options = TcpOptions { connection_limits: limits, ..TcpOptions::default() };
        let counters = Arc::clone(&options.counters);
        let mut listener = TcpListener::bind("127.0.0.1:0", options).await.unwrap();
        let connector = TcpConnector::new(&listener.url(), TcpOptions::default()).unwrap();
        let (first, held) = tokio::join!(connector.connect(), listener.accept());
        first.unwrap();
        let mut second = RawClient::connect(&listener).await;
        second.write(&hello("second", "")).await;
        let answer = tokio::select! {
            answer = second.read_all() => answer,
            end = accept_nothing(&mut listener) => end,
        };
        let (got, _, wait, _) = refusal(&answer);
        assert_eq!(got, status);
        assert!(wait > 0, "when to come again");
        assert_eq!(counters.snapshot().open, 1);
        drop(held);
        assert_eq!(counters.snapshot().open, 0);
        let (third, accepted) = tokio::join!(connector.connect(), listener.accept());
        third.unwrap();
        accepted.unwrap();
    }
}

#[tokio::test]
async fn a_slow_hello_is_given_up_and_holds_up_nobody() {
    let options =
        TcpOptions { handshake_timeout: Duration::from_millis(500), ..TcpOptions::default() };
    let counters: Arc<TransportCounters> = Arc::clone(&options.counters);
    let mut listener = TcpListener::bind("127.0.0.1:0", options).await.unwrap();
    let mut slow = RawClient::connect(&listener).await;
    slow.write(&MAGIC[..5]).await;
    let connector = TcpConnector::new(&listener.url(), TcpOptions::default()).unwrap();
    let begun = Instant::now();
    let (client, server) = tokio::join!(connector.connect(), listener.accept());
    client.unwrap();
    server.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(400), "took {:?}", begun.elapsed());
    let rest = tokio::select! {
        rest = slow.read_all() => rest,
        end = accept_nothing(&mut listener) => end,
    };
    assert!(rest.is_empty());
    assert_eq!(counters.snapshot().handshakes_timed_out, 1);
    assert_eq!(counters.snapshot().pending, 0);
}

#[tokio::test]
async fn a_connector_refuses_what_is_no_server_of_this_kind() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    for said in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[MAGIC, &[0, 9, 0, 5, 0, 0, 0, 0, 0]].concat()]
    {
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, said).await.unwrap();
            stream
        };
        let connector = TcpConnector::new(&url, TcpOptions::default()).unwrap();
        let (refused, _stream) = tokio::join!(connector.connect(), answering);
        assert!(matches!(refused, Err(TransportError::Protocol(_))), "{refused:?}");
    }
}
