//! Metadata and data records of an archive, whatever their bytes: read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pcp::archive::{MetaRecord, Version, file, index};

fuzz_target!(|data: &[u8]| {
    let content = bytes::Bytes::copy_from_slice(data);
    let _ = file::label(&content);
    for version in [Version::V2, Version::V3] {
        let _ = MetaRecord::decode(&content, version);
        let _ = index::read(&content, version, 0);
    }
    let mut at = 0;
    while let Ok(record) = file::record_at(&content, at) {
        at = record.end();
        assert!(file::record_before(&content, 0, at).is_ok());
    }
});
