//! Contexts and what they ask for (`-Dcontext`, `-Dprofile`).

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Flag, on};
use crate::connection::{Address, HostSpec};
use crate::indom::InDom;
use crate::pdu::Profile;
use crate::timestamp::Timestamp;

/// How many contexts were made.
static CONTEXTS: AtomicUsize = AtomicUsize::new(0);

/// A profile, or what it says of one domain.
fn profile(profile: &Profile, of: Option<InDom>) -> String {
    let state = |exclude| match exclude {
        true => "EXCLUDE",
        false => "INCLUDE",
    };
    let mut text = format!(
        "Dump Instance Profile state={}, {} profiles",
        state(profile.exclude),
        profile.indoms.len()
    );
    if let Some(indom) = of {
        let _ = write!(text, ", dump restricted to indom={} [{indom}]", indom.0);
    }
    text.push('\n');
    for (at, entry) in profile.indoms.iter().enumerate() {
        if of.is_some_and(|only| only != entry.indom) {
            continue;
        }
        let _ = writeln!(
            text,
            "\tProfile [{at}] indom={} [{}] state={} {} instances",
            entry.indom.0,
            entry.indom,
            state(entry.exclude),
            entry.instances.len()
        );
        if !entry.instances.is_empty() {
            text.push_str("\t\tInstances:");
            for inst in &entry.instances {
                let _ = write!(text, " [{inst}]");
            }
            text.push('\n');
        }
    }
    text
}

/// A profile was changed by that call.
pub(crate) fn changed(call: &str, indom: Option<InDom>, now: &Profile) {
    if on(Flag::Profile) {
        let of = indom.map_or_else(|| "PM_INDOM_NULL".to_owned(), |indom| indom.to_string());
        eprint!("{call}() indom: {of}\n{}", profile(now, indom));
    }
}

/// A profile is about to be sent.
pub(crate) fn sent(now: &Profile) {
    if on(Flag::Profile) {
        eprint!(
            "pmFetch: calling __pmSendProfile, context: 0 slot: 0\n{}",
            profile(now, None)
        );
    }
}

/// One context more, of that kind (`PM_CONTEXT_*`), and a line on its state.
fn made(kind: u8, name: &str, state: &str) {
    let number = CONTEXTS.fetch_add(1, Ordering::Relaxed);
    eprint!(
        "pmNewContext({kind}, {name}) -> {number}\n\
         Dump Contexts: current -> contexts[{number}] handle {number}\n\
         contexts[{number}] handle {number}: {state}\n{}",
        profile(&Profile::default(), None)
    );
}

/// A context over a host was made.
pub(crate) fn host(spec: &HostSpec, name: &str, fd: i32) {
    if on(Flag::Context) {
        let host = match &spec.address {
            Address::Host(host, _) => host.clone(),
            Address::Unix(path) | Address::Local(path) => path.display().to_string(),
        };
        let state = format!(
            "host {host}: pmcd=CONNECTED profile=NOT_SENT fd={fd} origin=0.000000000 delta=0.000000000"
        );
        made(1, name, &state);
    }
}

/// A context over archives was made, which stands at that volume and byte.
pub(crate) fn archive(name: &str, volume: i32, offset: usize, origin: Timestamp) {
    if on(Flag::Context) {
        let state = format!(
            "log {name}: mode=FORW profile=NOT_SENT refcnt=1 vol={volume} offset={offset} (vol={volume}) serial=0 \
             origin={}.{:09} delta=0.000000000",
            origin.sec, origin.nsec
        );
        made(2, name, &state);
    }
}
