//! Reloads the certificate when its files change, and warns before it expires.

use std::time::{Duration, SystemTime};

use downbeat_transport::tls::{ServerTls, TlsError, TlsReloader, Validity};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::TlsFiles;
use crate::watched::{Changes, Poll};

/// How long before its expiry the server warns. Most certificates are renewed a month before.
const SOON: Duration = Duration::from_hours(14 * 24);
/// Short-lived certificates: the server warns in the last quarter of their life.
const LAST_PART: u32 = 4;

/// Watches the certificate's files.
pub(crate) struct CertificateWatch {
    tls: TlsReloader,
    changes: Changes<2>,
    validity: Option<Validity>,
    state: State,
    /// The error of the last look, which is logged once.
    logged: Option<String>,
}

/// Whether clients accept the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Valid,
    NotYetValid,
    ExpiresSoon,
    Expired,
}

impl CertificateWatch {
    /// Reads the files for the first time.
    pub(crate) fn load(files: &TlsFiles) -> Result<(ServerTls, Self), TlsError> {
        let changes = Changes::new([&files.cert, &files.key]);
        let server = ServerTls::from_files(&files.cert, &files.key)?;
        let tls = server.reloader();
        let validity = tls.validity();
        let mut watch = Self { tls, changes, validity, state: State::Valid, logged: None };
        watch.warn_at(SystemTime::now());
        Ok((server, watch))
    }

    /// Access to the certificate in use.
    pub(crate) fn reloader(&self) -> TlsReloader {
        self.tls.clone()
    }

    /// Watches the files. Each message of `reload` forces a look.
    pub(crate) async fn run(self, reload: watch::Receiver<()>) {
        let mut poll = Poll::new(self, "files of the certificate", reload);
        while poll.next(Self::look).await.is_some() {}
    }

    fn look(&mut self, forced: bool) {
        if forced {
            self.logged = None;
        }
        let read = self.changes.read(forced, |_| Ok(self.tls.reload()));
        let error = match read {
            Ok(None) => None,
            Ok(Some(Ok(()))) => {
                self.logged = None;
                self.validity = self.tls.validity();
                self.state = State::Valid;
                info!("reloaded the certificate");
                None
            }
            Ok(Some(Err(error))) => Some(format!("{:#}", anyhow::Error::from(error))),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = error
            && self.logged.as_ref() != Some(&error)
        {
            error!(error, "cannot reload the certificate; the old one stays in use");
            self.logged = Some(error);
        }
        self.warn_at(SystemTime::now());
    }

    /// Warns once about each state in which clients refuse the certificate, or soon will.
    fn warn_at(&mut self, now: SystemTime) {
        let Some(validity) = self.validity else { return };
        let state = state_at(validity, now);
        if std::mem::replace(&mut self.state, state) == state {
            return;
        }
        let file = self.tls.certificates().display();
        let expires = humantime::format_rfc3339_seconds(validity.not_after);
        match state {
            State::Valid => {}
            State::NotYetValid => {
                let valid_from = humantime::format_rfc3339_seconds(validity.not_before);
                warn!(%file, %valid_from, "the certificate is not valid yet: clients refuse it");
            }
            State::ExpiresSoon => warn!(%file, %expires, "the certificate expires soon: renew it"),
            State::Expired => {
                warn!(%file, %expires, "the certificate has expired: clients refuse it");
            }
        }
    }
}

fn state_at(Validity { not_before, not_after }: Validity, now: SystemTime) -> State {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    match not_after.duration_since(now) {
        Err(_) => State::Expired,
        Ok(_) if now < not_before => State::NotYetValid,
        Ok(left) if left < SOON.min(life / LAST_PART) => State::ExpiresSoon,
        Ok(_) => State::Valid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_in_its_last_two_weeks_or_its_last_quarter() {
        let day = |number: u64| SystemTime::UNIX_EPOCH + Duration::from_hours(24 * number);
        for (days, now, state) in [
            (90, 99, State::NotYetValid),
            (90, 100, State::Valid),
            (90, 175, State::Valid),
            (90, 177, State::ExpiresSoon),
            (90, 191, State::Expired),
            (8, 105, State::Valid),
            (8, 107, State::ExpiresSoon),
        ] {
            let validity = Validity { not_before: day(100), not_after: day(100 + days) };
            assert_eq!(state_at(validity, day(now)), state, "{days} days, day {now}");
        }
    }
}
