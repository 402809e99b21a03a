//! Headers: the parsed facts, and the refused values.

use bytes::Bytes;
use downbeat_protocol::{
    AgentId, CoValueId, DecodeError, Header, Limits, Owner, Priority, Ruleset,
};

const AGENT: &str = "sealer_z8m6gBhpziw9X3kyL6zAfrQZeJg1muNQ7HGb3ubfaacoy/signer_zCCNZwhNyJmGASCY1ZLAJsqqr7KPuS8RFUaA9hgZNJUGB";
const GROUP: &str = r#"{"type":"ownedByGroup","group":"co_z1"}"#;

fn parse(json: &str) -> Result<Header, DecodeError> {
    Header::parse(&Bytes::copy_from_slice(json.as_bytes()), &Limits::default())
}

fn header(co_type: &str, ruleset: &str, meta: &str) -> Result<Header, DecodeError> {
    parse(&format!(r#"{{"type":"{co_type}","ruleset":{ruleset},"meta":{meta},"uniqueness":"z1"}}"#))
}

#[test]
fn an_account_is_a_group_of_an_agent_with_such_a_meta() {
    let agent = AgentId::parse(AGENT).unwrap();
    let account = Header::account(&agent);
    assert_eq!(account.account_agent(), Some(&agent));
    assert_eq!(account.ruleset(), &Ruleset::Group { initial_admin: Owner::Agent(agent.clone()) });
    assert_eq!(
        account.json(),
        &format!(
            r#"{{"createdAt":null,"meta":{{"type":"account"}},"ruleset":{{"initialAdmin":"{agent}","type":"group"}},"type":"comap","uniqueness":null}}"#
        )
    );
    let of_agent = format!(r#"{{"type":"group","initialAdmin":"{AGENT}"}}"#);
    let of_account = r#"{"type":"group","initialAdmin":"co_z1"}"#;
    let account = r#"{"type":"account"}"#;
    for (co_type, ruleset, meta, is_account) in [
        ("comap", &*of_agent, account, true),
        ("colist", &of_agent, account, false),
        ("comap", of_account, account, false),
        ("comap", &of_agent, "null", false),
        ("comap", &of_agent, r#"["account"]"#, false),
        ("comap", GROUP, account, false),
    ] {
        let header = header(co_type, ruleset, meta).unwrap();
        assert_eq!(header.account_agent().is_some(), is_account, "{header:?}");
    }
}

#[test]
fn groups_and_accounts_go_first_and_files_last() {
    let of_account = r#"{"type":"group","initialAdmin":"co_z1"}"#;
    let binary = r#"{"type":"binary"}"#;
    for (co_type, ruleset, meta, priority) in [
        ("comap", of_account, "null", Priority::High),
        ("comap", GROUP, "null", Priority::Medium),
        ("costream", GROUP, "null", Priority::Medium),
        ("costream", GROUP, binary, Priority::Low),
        ("comap", GROUP, binary, Priority::Medium),
    ] {
        assert_eq!(header(co_type, ruleset, meta).unwrap().priority(), priority);
    }
}

#[test]
fn the_source_of_a_branch_is_an_id_or_nothing() {
    let source = |meta: &str| header("comap", GROUP, meta).map(|header| header.source());
    assert_eq!(source(r#"{"source":"co_z2"}"#), Ok(Some(CoValueId::parse("co_z2").unwrap())));
    for nothing in [
        "null",
        "{}",
        r#"["source"]"#,
        r#"{"source":null}"#,
        r#"{"source":""}"#,
        r#"{"source":0.0}"#,
        r#"{"source":false}"#,
        r#"{"source":1e400}"#,
        r#"{"source":"co_z2","source":null}"#,
    ] {
        assert_eq!(source(nothing), Ok(None), "{nothing}");
    }
    for bad in [r#"{"source":"x"}"#, r#"{"source":5}"#, r#"{"source":{}}"#, r#"{"source":true}"#] {
        assert!(source(bad).is_err(), "{bad}");
    }
}

#[test]
fn uniqueness_takes_each_of_its_forms_and_no_other() {
    let with = |uniqueness: &str| {
        parse(&format!(r#"{{"type":"x","ruleset":{GROUP},"meta":null,"uniqueness":{uniqueness}}}"#))
    };
    for good in
        ["\"\"", "true", "false", "null", "-5", "5.0", "1e400", "{}", r#"{"a":"b"}"#, "1e18"]
    {
        assert!(with(good).is_ok(), "{good}");
    }
    for bad in ["0.5", "1e19", "[]", r#"{"a":5}"#, r#"{"":"b"}"#, r#"{"a":{}}"#, r#""\ud800""#] {
        assert!(with(bad).is_err(), "{bad}");
    }
    assert!(parse(&format!(r#"{{"type":"x","ruleset":{GROUP},"meta":null}}"#)).is_ok());
}

#[test]
fn members_that_are_not_known_are_dropped() {
    let json = r#"{"more":{"\u0061":[1,{}]},"type":"x","uniqueness":null,"ruleset":{"type":"unsafeAllowAll","more":1},"meta":{"more":1}}"#;
    assert_eq!(
        parse(json).unwrap().json(),
        r#"{"meta":{"more":1},"ruleset":{"type":"unsafeAllowAll"},"type":"x","uniqueness":null}"#
    );
}

#[test]
fn half_surrogate_pairs_are_refused_where_the_native_core_sees_them() {
    let with = |member: &str| {
        parse(&format!(r#"{{{member},"type":"x","ruleset":{GROUP},"uniqueness":null}}"#))
    };
    for bad in [
        r#""meta":{"a":"\ud800"}"#,
        r#""meta":{"\ud800":1}"#,
        r#""createdAt":"\ude00\ud83d""#,
        r#""\ud800":1"#,
    ] {
        assert!(with(bad).is_err(), "{bad}");
    }
    for good in [
        r#""meta":"\ud83d\ude00""#,
        r#""more":"\ud800""#,
        r#""meta":"\ud800","meta":null"#,
        r#""meta":{"a":"\ud800","a":1}"#,
    ] {
        assert!(with(good).is_ok(), "{good}");
    }
}

#[test]
fn what_is_hashed_differs_from_what_is_sent_only_where_the_native_core_differs() {
    let meta = |meta: &str| header("x", GROUP, meta).unwrap();
    for same in ["null", r#"{"a":[1,0.5,"encrypted_U\"",9007199254740992,"\u00e9"]}"#, "1e-7"] {
        assert_eq!(meta(same).json(), meta(same).hashed_json(), "{same}");
    }
    for different in ["1e21", "1e-6", r#"{"\ud800\udc00":1,"\uffee":2}"#, "2.5198666249170602e269"]
    {
        let header = meta(different);
        assert_ne!(header.json(), header.hashed_json(), "{different}");
        let again = parse(str::from_utf8(header.json()).unwrap()).unwrap();
        assert_eq!(again.hashed_json(), header.hashed_json(), "{different}");
    }
}

#[test]
fn of_repeated_members_of_uniqueness_the_last_counts() {
    let header = |uniqueness: &str| {
        let json = format!(
            r#"{{"createdAt":null,"meta":null,"ruleset":{{"type":"unsafeAllowAll"}},"type":"x","uniqueness":{uniqueness}}}"#
        );
        downbeat_protocol::Header::parse(&json.into(), &downbeat_protocol::Limits::default())
    };
    assert!(header(r#"{"a":true,"a":"x"}"#).is_ok());
    assert!(header(r#"{"a":"x","a":true}"#).is_err());
}
