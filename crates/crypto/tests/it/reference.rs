//! Values that the reference (cojson 0.20.19) computed.

use downbeat_crypto::{AgentSecret, VerifyingKey, hash, header_id, sessions_hash, short_hash};
use downbeat_protocol::{CoValueId, Header, Limits, Ruleset, SessionCounts, SessionId, Uniqueness};

const SECRET: &str = "sealerSecret_zG4mMpgwV15SSppv6ojNtGVUJdP4aqRvcx3gxErLF83Pe/signerSecret_zBArFXTSgFncTtrATfYboyyy9eNffiajE1xrHR9nziEkR";
const AGENT: &str = "sealer_z5xxryjcJGa3mFfHN1YVEiBV5Qh4tZYDsmPTsLZRsoFLe/signer_z3v8gPS96Bfu3xmsFKqBKsewTtGHynvyC2XTsdxYHcb7t";
const HASH: &str = "hash_zFNqGpFqo3V4TH4FZATJmpRXSVcUGCY4VQH7LApEmzUVg";
const SIGNATURE: &str = "signature_z4XfQZ24U3Uva4sRpBqQ3MoA8E8iPQuZeFwXJgR4GTYZjyuLWyjhUmPhUdEB2tUVqwP53bnmWwZk931z59dLdpm74";

/// The seed 0, 1, 2, …, 31.
fn seed() -> [u8; 32] {
    std::array::from_fn(|index| u8::try_from(index).unwrap())
}

#[test]
fn a_secret_seed_gives_the_references_agent() {
    let secret = AgentSecret::from_secret_seed(&seed());
    assert_eq!(*secret.expose_text(), SECRET);
    assert_eq!(secret.agent().as_str(), AGENT);
}

#[test]
fn hashes_are_the_references() {
    assert_eq!(hash(br#"{"a":1}"#).to_string(), HASH);
    assert_eq!(short_hash(br#"{"a":1}"#).to_string(), "shortHash_zg774ESH1N5z1MjDZK1UmttabHb");
    let counts = SessionCounts::from_iter([
        (SessionId::parse("co_zb_session_z2").unwrap(), 12),
        (SessionId::parse("co_za_session_z1").unwrap(), 3),
    ]);
    assert_eq!(sessions_hash(&counts).to_string(), "shortHash_zbFhLH5D5ipqZ1kJcVcW2CCq9no");
}

#[test]
fn signatures_are_the_references_both_ways() {
    let secret = AgentSecret::parse(SECRET).unwrap();
    let hash = hash(br#"{"a":1}"#);
    assert_eq!(secret.signer_secret().sign(&hash).as_str(), SIGNATURE);
    let key = VerifyingKey::new(secret.agent().signer()).unwrap();
    key.verify(&hash, &SIGNATURE.parse().unwrap()).unwrap();
}

#[test]
fn a_header_has_the_id_of_the_native_core() {
    // JavaScript would write the number and the order of names differently.
    let json = r#"{"meta":{"a":1e21,"\uffff":1,"\ud800\udc00":2},"ruleset":{"type":"unsafeAllowAll"},"type":"comap","uniqueness":"z1"}"#;
    let header = Header::parse(&json.into(), &Limits::default()).unwrap();
    assert_eq!(header_id(&header).as_str(), "co_zG7X2wqvno5R4Z5VQAggjQdCqQx");
}

/// Unique CoValues and branches have no `createdAt`; other CoValues have a time.
#[test]
fn headers_that_are_built_have_the_ids_of_the_reference() {
    let group = CoValueId::parse("co_zGroupGroupGroupGroupGroup").unwrap();
    let text = |text: &str| Uniqueness::Text(text.to_owned());
    let member = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let owned = |co_type| Header::builder(co_type, Ruleset::OwnedByGroup { group });
    let unique = |co_type, name| owned(co_type).uniqueness(name).without_created_at();
    let object = Uniqueness::Object(vec![member("a", "1"), member("_field", "x/y")]);
    let branch = r#"{"branch":"draft","source":"co_zSource"}"#;
    let file = owned("costream")
        .meta(r#"{"type":"binary"}"#)
        .created_at("2024-05-01T12:00:00.000Z")
        .uniqueness(text("z4br3F6sRwRzoY4hy9"));
    for (builder, id) in [
        (unique("comap", text("settings")), "co_zKhrSRvjThbZy3BkqKUQCBQoZrJ"),
        (unique("comap", object), "co_zCRhHq6zxU6QTLvw6a85vfPsZSt"),
        (unique("colist", text("settings@@items")), "co_zSrqKp2J4m1xBpdevVG2ZJrddUS"),
        (unique("colist", text("r")).restrict_deletion(true), "co_zSjyrHRnXhu1FhCrYAcamgk3wTJ"),
        (unique("comap", text("")).meta(branch), "co_zDQxPBUTVz72rPEm7YQi3iD76ww"),
        (file, "co_zQ3na9zFfU2w6JqvvDuLEvkX8pN"),
    ] {
        assert_eq!(header_id(&builder.build().unwrap()).as_str(), id);
    }
}
