//! Whatever comes over a socket is decoded or refused; what is decoded can be sent on.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let frame = bytes::Bytes::copy_from_slice(data);
    if let Ok((_, pdu)) = pcp::pdu::Pdu::decode(&frame) {
        let again = bytes::Bytes::from(pdu.to_bytes(0));
        assert!(pcp::pdu::Pdu::decode(&again).is_ok(), "{pdu:?}");
    }
});
