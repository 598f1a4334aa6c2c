use bytes::Bytes;

use super::*;
use crate::label::{Label, LabelFlags};
use crate::value::{Atom, InstanceValue, Value, ValueSet};

fn words(words: &[u32]) -> Bytes {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

/// Recorded from pmcd and pminfo 6.0.3.
#[test]
fn decodes_and_encodes_what_pcp_sends() {
    let name = [0x7361_6d70, 0x6c65_2e62, 0x696e_7e7e];
    let recorded: Vec<(Bytes, Pdu)> = vec![
        (
            words(&[20, 0x7000, 0, 0, 0x0201_0e44]),
            Pdu::Error {
                code: ErrorCode::OK,
                info: Some(Info::new(
                    Features::AUTH
                        .with(Features::CONTAINER)
                        .with(Features::LABELS)
                        .with(Features::HIGHRES)
                        .with(Features::DESCS),
                )),
            },
        ),
        (
            words(&[20, 0x700c, 0, 1, 0x0102_0000]),
            Pdu::Creds(vec![Cred::version(Features::default())]),
        ),
        (
            words(&[32, 0x7010, 0, 0, 10, name[0], name[1], name[2]]),
            Pdu::PmnsTraverse {
                name: "sample.bin".into(),
            },
        ),
        (
            words(&[40, 0x700e, 0, 11, 0, 1, 10, name[0], name[1], name[2]]),
            Pdu::PmnsNames {
                names: vec!["sample.bin".into()],
                status: vec![],
            },
        ),
        (
            words(&[24, 0x700d, 0, 1, 1, 0x0740_0006]),
            Pdu::PmnsIds {
                status: 1,
                pmids: vec![Pmid(0x0740_0006)],
            },
        ),
        (
            words(&[48, 0x7002, 0, 0, 0, 1, 0, 0x0740_0002, 1, 1, 0, 100]),
            Pdu::Profile {
                context: 0,
                profile: Profile {
                    exclude: false,
                    indoms: vec![ProfileEntry {
                        indom: InDom(0x0740_0002),
                        exclude: true,
                        instances: vec![100],
                    }],
                },
            },
        ),
        (
            words(&[32, 0x7014, 0, 0, 0, 0, 1, 0x0740_0006]),
            Pdu::HighResFetch {
                context: 0,
                pmids: vec![Pmid(0x0740_0006)],
            },
        ),
        (
            words(&[
                52,
                0x7015,
                0,
                1,
                0,
                0x6b04_049f,
                0,
                0x1332_6db2,
                0x0740_0006,
                1,
                0,
                100,
                100,
            ]),
            Pdu::HighResResult(Fetched {
                time: Timestamp::new(0x6b04_049f, 0x1332_6db2),
                sets: vec![ValueSet::new(
                    Pmid(0x0740_0006),
                    vec![InstanceValue {
                        inst: 100,
                        value: Value::Insitu(100),
                    }],
                )],
            }),
        ),
        (
            words(&[28, 0x7016, 0, 0xffff_ffff, 2, 0x0740_000a, 0x0740_0006]),
            Pdu::DescIds(vec![Pmid(0x0740_000a), Pmid(0x0740_0006)]),
        ),
        (
            words(&[32, 0x7005, 0, 0x0740_0024, 0, 0xffff_ffff, 3, 0x0f10_3000]),
            Pdu::Desc(Desc {
                pmid: Pmid(0x0740_0024),
                ty: Type::I32,
                indom: InDom::NULL,
                sem: Semantics::Instant,
                units: Units::new(0, -1, 1, 0, 3, 0),
            }),
        ),
        (
            words(&[
                40,
                0x7006,
                0,
                0x0740_0002,
                0,
                0,
                0xffff_ffff,
                7,
                0x6269_6e2d,
                0x3130_307e,
            ]),
            Pdu::InstanceReq {
                indom: InDom(0x0740_0002),
                inst: -1,
                name: "bin-100".into(),
            },
        ),
    ];
    for (bytes, pdu) in recorded {
        let (header, decoded) = Pdu::decode(&bytes).expect("a PDU");
        assert_eq!(header.length, bytes.len());
        assert_eq!(decoded, pdu);
        assert_eq!(pdu.to_bytes(0), bytes);
        for end in 0..bytes.len() {
            assert!(Pdu::decode(&bytes.slice(..end)).is_err());
        }
    }
}

#[test]
fn value_blocks_and_labels_survive_a_round_trip() {
    let value = |inst, atom: Atom| InstanceValue {
        inst,
        value: atom.to_value(),
    };
    let sets = vec![
        ValueSet::new(Pmid(1), vec![value(-1, Atom::String("hello".into()))]),
        ValueSet::error(Pmid(2), ErrorCode::PMID),
        ValueSet::new(Pmid(3), vec![]),
        ValueSet::new(
            Pmid(4),
            vec![value(0, Atom::I64(-7)), value(1, Atom::Double(0.5))],
        ),
    ];
    let fetched = Fetched {
        time: Timestamp::new(7, 5000),
        sets,
    };
    let json = Bytes::from_static(br#"{"agent":"sample"}"#);
    let label = Label {
        name: 2,
        name_len: 5,
        flags: LabelFlags(2),
        value: 9,
        value_len: 8,
    };
    for pdu in [
        Pdu::Result(fetched.clone()),
        Pdu::HighResResult(fetched),
        Pdu::Label {
            ident: 29,
            level: 2,
            sets: vec![LabelSet {
                inst: -1,
                json,
                labels: vec![label],
            }],
        },
    ] {
        let bytes = Bytes::from(pdu.to_bytes(0));
        assert_eq!(Pdu::decode(&bytes).expect("a PDU").1, pdu);
    }
}

#[test]
fn counts_beyond_the_frame_are_refused_before_anything_is_reserved() {
    for kind in 0x7000..=0x7017 {
        for word in [0x7fff_ffff, 0xffff_ffff, 0x4000_0000, 0x1000_0000] {
            let mut frame = vec![64, kind, 0];
            frame.resize(16, word);
            let _ = Pdu::decode(&words(&frame));
        }
    }
    assert_eq!(
        Header::decode(&words(&[1 << 20, 0x7000, 0]), CLIENT_LIMIT).map_err(|e| e.code()),
        Err(ErrorCode::TOOBIG)
    );
}

#[test]
fn profiles_follow_pmaddprofile() {
    let indom = InDom::new(29, 2);
    let mut profile = Profile::default();
    assert!(profile.includes(indom, 5));
    profile.remove(Some(indom), &[]);
    assert!(!profile.includes(indom, 5));
    profile.add(Some(indom), &[5]);
    assert!(profile.includes(indom, 5) && !profile.includes(indom, 6));
    profile.remove(None, &[]);
    assert!(!profile.includes(indom, 5));
}

#[test]
fn values_that_are_passed_on_are_those_that_came() {
    let value = |inst, atom: Atom| InstanceValue {
        inst,
        value: atom.to_value(),
    };
    let pmids = [
        Pmid::new(29, 0, 1),
        Pmid::new(29, 0, 2),
        Pmid::new(29, 0, 3),
    ];
    let texts = vec![
        value(1, Atom::String("one".into())),
        value(2, Atom::String("three".into())),
    ];
    let sets = vec![
        ValueSet::new(pmids[0], texts),
        ValueSet::error(pmids[1], ErrorCode::AGAIN),
        ValueSet::new(pmids[2], vec![value(-1, Atom::U64(1 << 40))]),
    ];
    let fetched = Fetched {
        time: Timestamp::new(1, 0),
        sets,
    };
    let sent: Bytes = Pdu::Result(fetched.clone()).to_bytes(7).into();
    let raw = RawResult::check(sent.clone()).expect("a result");
    assert!(raw.is_of(&pmids) && !raw.is_of(&pmids[..2]) && !raw.is_of(&[pmids[0]; 3]));
    let time = Timestamp::new(5, 6000);
    let now = Fetched { time, ..fetched };
    for (high_res, same) in [
        (false, Pdu::Result(now.clone())),
        (true, Pdu::HighResResult(now)),
    ] {
        let mut out = Vec::new();
        raw.encode(time, high_res, &mut out);
        assert_eq!(out, same.to_bytes(0));
    }
    // A block that is not behind the metrics, or not whole.
    for at in (12..sent.len()).step_by(4) {
        for word in [0u32, 3, 9, 1 << 20, u32::MAX] {
            let mut bad = sent.to_vec();
            bad[at..at + 4].copy_from_slice(&word.to_be_bytes());
            let bad = Bytes::from(bad);
            let whole = Pdu::decode(&bad).is_ok();
            assert!(whole || RawResult::check(bad).is_err(), "{word:#x} at {at}");
        }
    }
}
