//! Variables that Kubernetes injects for each Service of the namespace, and Docker for each linked
//! container. For a Service named `downbeat` they have the prefix of our own variables.

use std::ffi::OsStr;

/// The protocols of a Service, as the variables spell them.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// Whether a variable describes a Service: `DOWNBEAT_SERVICE_HOST`, `DOWNBEAT_SERVICE_PORT_HTTPS`,
/// `DOWNBEAT_PORT_4200_TCP_ADDR`; or `DOWNBEAT_PORT` with a value like `tcp://10.96.0.12:4200`, and
/// the same for a Service named `downbeat-admin`.
pub(super) fn is_injected(name: &str, value: &OsStr) -> bool {
    if name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
    {
        return true;
    }
    if name.ends_with("_PORT") && value.to_str().is_some_and(is_service_url) {
        return true;
    }
    name.match_indices("_PORT_").any(|(at, part)| is_port_part(&name[at + part.len()..]))
}

/// `tcp://10.96.0.12:4200`.
fn is_service_url(value: &str) -> bool {
    value.split_once("://").is_some_and(|(protocol, _)| PROTOCOLS.contains(&protocol))
}

/// `4200_TCP`, with an optional suffix.
fn is_port_part(text: &str) -> bool {
    let mut words = text.split('_');
    let port = words.next().unwrap_or_default();
    let protocol = words.next().unwrap_or_default().to_ascii_lowercase();
    !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && PROTOCOLS.contains(&protocol.as_str())
        && matches!(words.next(), None | Some("PROTO" | "PORT" | "ADDR"))
        && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::super::settings::{SPECS, Spec};
    use super::*;

    #[test]
    fn no_setting_has_a_name_that_only_a_service_has() {
        for name in SPECS.iter().map(Spec::variable) {
            assert!(!is_injected(&name, OsStr::new("4200")), "{name}");
        }
    }
}
