//! The choice of the upstreams for each CoValue, by highest random weight. Every node chooses the
//! same.

use std::cmp::Reverse;

use downbeat_protocol::CoValueId;
use md5::{Digest, Md5};

use crate::event::UpstreamName;

/// The names with the `count` highest weights. A weight is the first 4 bytes, big-endian, of
/// MD5(id + name).
pub(crate) fn select(
    id: CoValueId,
    mut names: Vec<UpstreamName>,
    count: usize,
) -> Vec<UpstreamName> {
    if names.len() > count {
        let weight = |name: &UpstreamName| {
            let hash =
                Md5::new().chain_update(id.as_str()).chain_update(name.as_bytes()).finalize();
            u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
        };
        names.sort_by_cached_key(|name| Reverse(weight(name)));
        names.truncate(count);
    }
    names
}

#[cfg(test)]
mod tests {
    use rustc_hash::FxHashSet;

    use super::*;

    /// The reference selector's choice among these four, by CoValue: the first, the second
    /// and the third by weight.
    const UPSTREAMS: [&str; 4] =
        ["wss://a.example", "wss://b.example", "wss://c.example", "wss://d.example"];
    const CHOSEN: [(&str, [&str; 3]); 6] = [
        ("co_z7oxMo1zgLtrZpewTmcky3mL1CS", ["b", "d", "c"]),
        ("co_zEcT3iATxtEqCgA38rmZmypytx7", ["c", "d", "a"]),
        ("co_zMQwjdJwFRaoqHDgC8FP6Cuqw1i", ["b", "a", "c"]),
        ("co_zUDSRYTQXbXDNirdvoWLHy4jnFj", ["a", "b", "c"]),
        ("co_zb1w7TUgnm4mF4dfrAETQg5GUav", ["c", "b", "a"]),
        ("co_zhpPPJM7SH5DpRu1EGVEcRonnJf", ["c", "a", "d"]),
    ];

    #[test]
    fn the_reference_chooses_the_same_upstreams() {
        for (id, letters) in CHOSEN {
            for count in 1..=3 {
                let names = UPSTREAMS.iter().map(|name| UpstreamName::from(*name)).collect();
                let chosen = select(CoValueId::parse(id).unwrap(), names, count);
                let expected = letters[..count].iter().map(|name| format!("wss://{name}.example"));
                assert!(expected.eq(chosen.iter().map(ToString::to_string)), "{id} {count}");
            }
        }
    }

    #[test]
    fn each_covalue_has_its_own_order_of_upstreams() {
        let names = || ["wss://a".into(), "wss://b".into(), "wss://c".into()].to_vec();
        let chosen: FxHashSet<UpstreamName> = ["co_z1", "co_z2", "co_z3", "co_z4", "co_z5"]
            .iter()
            .flat_map(|id| select(CoValueId::parse(id).unwrap(), names(), 1))
            .collect();
        assert!(chosen.len() > 1);
        let all = select(CoValueId::parse("co_z1").unwrap(), names(), 3);
        assert_eq!(all.len(), 3);
    }
}
