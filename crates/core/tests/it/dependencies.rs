//! The dependencies of CoValues.

use downbeat_core::dependencies;
use downbeat_protocol::Transaction;

use crate::given::{content, header, id, session};

const AGENT: &str = "sealer_zAXww9Gs6BT1XdaypAyZieTyenP6DbCb7LHnw1ySAqvSu/signer_zA1aoF664yhsrJiFNm7yy8Rg6M1Rkhjcz5fc9u7ARUcB1";
const OWNED: &str = r#"{"meta":null,"ruleset":{"group":"co_zGroup","type":"ownedByGroup"},"type":"comap","uniqueness":"z1"}"#;
const GROUP: &str = r#"{"meta":null,"ruleset":{"initialAdmin":"co_zAdmin","type":"group"},"type":"comap","uniqueness":"z1"}"#;

fn set(key: &str) -> Transaction {
    Transaction::trusting(&format!(r#"[{{"op":"set","key":"{key}","value":"x"}}]"#), 1, None)
}

#[test]
fn a_header_names_the_owning_group_and_the_source_of_a_branch() {
    assert_eq!(dependencies::of_header(&header(OWNED)), [id("co_zGroup")]);
    let branch = OWNED.replace("null", r#"{"branch":"b","source":"co_zSource"}"#);
    assert_eq!(dependencies::of_header(&header(&branch)), [id("co_zGroup"), id("co_zSource")]);
    assert_eq!(dependencies::of_header(&header(GROUP)), []);
}

#[test]
fn sessions_name_their_accounts_once_and_no_agents() {
    let sessions = [
        session("co_zB_session_z1"),
        session("co_zA_session_z1"),
        session("co_zB_session_d2$"),
        session(&format!("{AGENT}_session_z1")),
    ];
    assert_eq!(dependencies::of_sessions(&sessions), [id("co_zB"), id("co_zA")]);
}

#[test]
fn a_group_depends_on_the_members_and_parents_that_it_sets() {
    let transactions = [
        set("co_zMember"),
        set("parent_co_zParent"),
        set("everyone"),
        set("key_z1_for_co_zMember"),
        set("co_!"),
        set("parent_"),
        set(AGENT),
        set("co_zMember"),
        Transaction::trusting(r#"[{"op":"del","key":"co_zDeleted"}]"#, 1, None),
        Transaction::trusting("no JSON", 1, None),
        Transaction::private("encrypted_Uabc", "key_z1", 1, None),
        Transaction::trusting(
            r#"[{"op":"set","key":"co_z1"},{"op":"set","key":"co_z2"}]"#,
            1,
            None,
        ),
    ];
    assert_eq!(
        dependencies::of_group_transactions(&transactions),
        [id("co_zMember"), id("co_zParent"), id("co_z1"), id("co_z2")]
    );
}

#[test]
fn content_depends_on_all_of_it_but_never_on_itself() {
    let session = session("co_zWriter_session_z1");
    let transactions = vec![set("co_zMember"), set("co_zThis")];
    let of = |header| {
        let content = content(id("co_zThis"), None, [(session.clone(), transactions.clone())]);
        dependencies::of_content(id("co_zThis"), &header, &content)
    };
    assert_eq!(of(header(GROUP)), [id("co_zWriter"), id("co_zMember")]);
    assert_eq!(of(header(OWNED)), [id("co_zGroup"), id("co_zWriter")], "keys count in groups only");
}
