//! How pmlc shows the states of metrics.

use pcp::pdu::log::LoggingState;

/// A state in pmlc's columns.
pub(super) fn shown(state: LoggingState) -> String {
    let level = if state.mandatory { "mand" } else { "adv" };
    let switch = if state.on { "on" } else { "off" };
    let presence = match (state.in_log, state.available) {
        (false, _) => "nl",
        (true, false) => "na",
        (true, true) => "",
    };
    let every = match (state.on, state.delta) {
        (false, _) => format!("{:13}", ""),
        (true, 0) => format!("{:>13}", "once"),
        (true, delta) => interval(delta),
    };
    format!("    {level:<4} {switch:<3} {presence:<2}{every}")
}

/// Milliseconds in the largest unit of which there is one.
fn interval(delta: u32) -> String {
    let (unit, scale) = match delta {
        0..1_000 => ("msec", 1),
        1_000..60_000 => ("sec ", 1_000),
        60_000..3_600_000 => ("min ", 60_000),
        _ => ("hour", 3_600_000),
    };
    let value = f64::from(delta) / f64::from(scale);
    let part = value.fract();
    // As many digits as there are, up to three, each kind in a column of its own.
    let number = if part == 0.0 {
        format!("{value:7.0}")
    } else if (part * 10.0).fract() == 0.0 {
        format!("{value:6.1}")
    } else if (part * 100.0).fract() == 0.0 {
        format!("{value:5.2}")
    } else {
        format!("{value:5.3}")
    };
    format!(" {number} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    // The columns that Debian's pmlc prints.
    #[test]
    fn states_stand_in_columns() {
        let state = |mandatory, delta: Option<u32>, in_log| LoggingState {
            on: delta.is_some(),
            mandatory,
            in_log,
            available: in_log,
            delta: delta.unwrap_or(0),
        };
        for (shown_state, line) in [
            (
                state(true, Some(1000), true),
                "    mand on           1 sec ",
            ),
            (
                state(true, Some(1000), false),
                "    mand on  nl       1 sec ",
            ),
            (state(false, Some(0), true), "    adv  on             once"),
            (
                state(false, Some(90_000), true),
                "    adv  on        1.5 min ",
            ),
            (state(true, Some(250), true), "    mand on         250 msec"),
            (state(true, Some(1250), true), "    mand on      1.25 sec "),
            (
                state(true, Some(12_345), true),
                "    mand on     12.345 sec ",
            ),
            (
                state(true, Some(63_000), true),
                "    mand on     1.050 min ",
            ),
            (
                state(true, Some(7_500_000), true),
                "    mand on     2.083 hour",
            ),
            (state(false, None, false), "    adv  off nl             "),
        ] {
            assert_eq!(shown(shown_state), line);
        }
    }
}
