use semver::Version;

use super::*;
use crate::close::Closed;
use crate::handshake::Peer;
use crate::link::config::Config;
use crate::message::Role;
use crate::session::Session;
use crate::wire::{Dialect, Draft};

/// A link without a task: what is queued stays until a test takes it.
pub(in crate::link) fn outlet(change: impl FnOnce(&mut Config)) -> Outlet {
    let mut config = Config::default();
    change(&mut config);
    let (version, agent, role) = (Version::new(2, 0, 0), String::new(), Role::Control);
    let peer = Peer { role, id: None, name: None, agent, version: version.clone() };
    let session = Session::continuing(Dialect::PLAIN, 0);
    Outlet::new(Handle::new(Role::Master, peer, version, config, session.sending, None))
}

/// Whatever the order of a request and the end: nobody waits for ever.
#[test]
fn a_request_beside_the_end_is_told() {
    use futures::FutureExt as _;
    const ROUNDS: usize = 5_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let rounds: Vec<Outlet> = (0..ROUNDS).map(|_| outlet(|_| {})).collect();
    let barrier = std::sync::Barrier::new(2);
    let mut left = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for handle in &rounds {
                barrier.wait();
                handle.end(Closed::lost("cut"));
                barrier.wait();
            }
        });
        for handle in &rounds {
            let draft = Draft::request("ask", &crate::message::Empty {}).unwrap();
            let mut request =
                RequestFuture::new(handle.handle().clone(), Ok(draft), None, |_| Ok(()));
            barrier.wait();
            let first = (&mut request).now_or_never();
            barrier.wait();
            // Either it was not let in, or the end has told it.
            left += usize::from(first.is_none() && request.now_or_never().is_none());
        }
    });
    assert_eq!(left, 0, "of {ROUNDS} would wait for ever");
    assert!(rounds.iter().all(|handle| handle.pending() == 0));
}
