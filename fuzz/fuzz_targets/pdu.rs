//! Whatever comes over a socket is decoded or refused; what is decoded can be sent on. A result that is passed on without being
//! read has the same values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pcp::Timestamp;
use pcp::pdu::{Pdu, RawResult};

fuzz_target!(|data: &[u8]| {
    let frame = bytes::Bytes::copy_from_slice(data);
    if let Ok((_, pdu)) = Pdu::decode(&frame) {
        let again = bytes::Bytes::from(pdu.to_bytes(0));
        assert!(Pdu::decode(&again).is_ok(), "{pdu:?}");
    }
    if let Ok(raw) = RawResult::check(frame) {
        let read = raw.decode().expect("what was checked");
        for high_res in [false, true] {
            let mut out = Vec::new();
            raw.encode(Timestamp::default(), high_res, &mut out);
            match Pdu::decode(&out.into()).expect("what was checked").1 {
                Pdu::Result(passed) | Pdu::HighResResult(passed) => {
                    assert_eq!(passed.sets, read.sets);
                }
                other => panic!("{other:?}"),
            }
        }
    }
});
