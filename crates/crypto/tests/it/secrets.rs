//! Secrets: their texts, and that errors and `Debug` do not reveal them.

use downbeat_crypto::{
    AgentSecret, SealerSecret, SignerSecret, delete_session_id, random_session_id, session_id,
};
use downbeat_protocol::{Owner, Uniqueness};

#[test]
fn secrets_round_trip_through_their_texts() {
    let secret = AgentSecret::generate().unwrap();
    let again = AgentSecret::parse(&secret.expose_text()).unwrap();
    assert_eq!(again.agent(), secret.agent());
    assert_eq!(again.expose_text(), secret.expose_text());
    let leading_zeros = SignerSecret::from_bytes(&[0; 32]);
    assert_eq!(
        SignerSecret::parse(&leading_zeros.expose_text()).unwrap().signer(),
        leading_zeros.signer()
    );
}

#[test]
fn debug_shows_nothing_of_a_secret() {
    let secret = AgentSecret::from_secret_seed(&[9; 32]);
    assert_eq!(format!("{secret:?}"), "AgentSecret(..)");
    assert_eq!(format!("{:?}", secret.signer_secret()), "SignerSecret(..)");
    assert_eq!(format!("{:?}", secret.sealer_secret()), "SealerSecret(..)");
}

#[test]
fn a_bad_secret_is_refused_without_being_quoted() {
    let good = AgentSecret::from_secret_seed(&[9; 32]).expose_text();
    let (sealer, signer) = good.split_once('/').unwrap();
    for bad in ["", "/", signer, &format!("{signer}/{sealer}"), &good[..good.len() - 3]] {
        let error = AgentSecret::parse(bad).unwrap_err();
        assert_eq!(error.to_string(), "not an agent secret (sealerSecret_z…/signerSecret_z…)");
    }
    assert!(SealerSecret::parse(signer).is_err());
    assert!(SignerSecret::parse("signerSecret_z11").is_err());
    assert!(SignerSecret::parse(&format!("signerSecret_z{}", "z".repeat(1000))).is_err());
}

#[test]
fn generated_agents_and_sessions_differ() {
    let (one, two) = (AgentSecret::generate().unwrap(), AgentSecret::generate().unwrap());
    assert_ne!(one.agent(), two.agent());
    let owner = Owner::Agent(one.agent());
    assert_ne!(random_session_id(&owner).unwrap(), random_session_id(&owner).unwrap());
}

#[test]
fn given_random_bytes_make_the_same_identifiers_every_time() {
    let owner = Owner::parse("co_znKg8yzFP9wzcTyoJZXk5kgY77V").unwrap();
    let session = session_id(&owner, [1; 8]);
    assert_eq!(session.as_str(), "co_znKg8yzFP9wzcTyoJZXk5kgY77V_session_zAjszg3RAw2");
    assert!(!session.is_delete());
    let delete = delete_session_id(&owner, [1; 7]);
    assert_eq!(delete.owner(), &owner);
    assert!(delete.is_delete());
    assert_eq!(Uniqueness::from_bytes([0; 12]), Uniqueness::Text("z111111111111".to_owned()));
    assert!(session_id(&owner, [0; 8]).as_str().ends_with("_session_z11111111"));
}
