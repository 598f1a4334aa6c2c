use std::fs;
use std::path::PathBuf;

use bytes::Bytes;

use super::*;
use crate::{InDom, Pmid};

/// A folder of one test's own, removed afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("pcp-archive-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 8)
        .expect("short")
        .to_be_bytes();
    [&length, payload, &length].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

fn label(version: Version, volume: i32) -> Label {
    Label {
        version,
        pid: 77,
        start: Timestamp::new(1000, 5000),
        volume,
        features: 0,
        hostname: "host".into(),
        timezone: "UTC".into(),
        zoneinfo: "".into(),
    }
}

/// One metric with instances 1 and 2, logged at 1001 and 1003 with a mark at 1002; each record in a volume of its own.
fn write(folder: &Folder, version: Version) -> PathBuf {
    let base = folder.0.join("a");
    let file = |suffix: &str| base.with_extension(suffix);
    let pmid = Pmid::new(29, 0, 6).0;
    let indom = InDom::new(29, 2).0;
    let mut meta = framed(&label(version, VOLUME_META).encode());
    let mut desc = words(&[1, pmid, 1, indom, 3, 0, 1, 3]);
    desc.extend_from_slice(b"a.b");
    meta.extend(framed(&desc));
    let (kind, mut instances) = match version {
        Version::V2 => (meta::kind::INDOM_V2, Vec::new()),
        Version::V3 => (meta::kind::INDOM, Vec::new()),
    };
    instances.extend(words(&[kind]));
    version.write_time(&mut instances, Timestamp::new(1001, 0));
    instances.extend(words(&[indom, 2, 1, 2, 0, 4]));
    instances.extend_from_slice(b"one\0two\0");
    meta.extend(framed(&instances));
    fs::write(file("meta"), meta).expect("metadata");
    let data = |seconds: i64, rest: &[u32]| {
        let mut payload = Vec::new();
        version.write_time(&mut payload, Timestamp::new(seconds, 0));
        payload.extend(words(rest));
        framed(&payload)
    };
    let records = [
        data(1001, &[1, pmid, 2, 0, 1, 10, 2, 20]),
        data(1002, &[0]),
        data(1003, &[1, pmid, 1, 0, 2, 21]),
    ];
    for (volume, record) in (0..).zip(records) {
        let content = [framed(&label(version, volume).encode()), record].concat();
        fs::write(file(&volume.to_string()), content).expect("a volume");
    }
    base
}

fn times(archive: &Arc<Archive>, backwards: bool) -> Vec<(i64, bool)> {
    let mut found = Vec::new();
    let mut cursor = if backwards {
        Cursor::at_end(archive.clone()).expect("the end")
    } else {
        Cursor::at_start(archive.clone()).expect("the start")
    };
    let mut step = || {
        if backwards {
            cursor.preceding()
        } else {
            cursor.following()
        }
    };
    // A record that is cut off ends the archive with an error, which hides nothing before it.
    while let Ok(Some(record)) = step() {
        found.push((record.time.sec, record.is_mark()));
    }
    found
}

#[test]
fn both_versions_read_the_same_in_both_directions() {
    for version in [Version::V2, Version::V3] {
        let folder = Folder::new(&format!("both-{}", version as u32));
        let archive = Archive::open(&write(&folder, version)).expect("an archive");
        assert_eq!(archive.label.start, Timestamp::new(1000, 5000));
        assert_eq!(archive.end().expect("an end"), Timestamp::new(1003, 0));
        let expected = [(1001, false), (1002, true), (1003, false)];
        assert_eq!(times(&archive, false), expected);
        assert_eq!(
            times(&archive, true),
            expected.into_iter().rev().collect::<Vec<_>>()
        );
        let name = archive
            .meta
            .instance_name(InDom::new(29, 2), 2, Timestamp::new(1003, 0));
        assert_eq!(name.map(ToString::to_string).as_deref(), Some("two"));
        let mut cursor = Cursor::at_start(archive.clone()).expect("the start");
        let first = cursor.following().expect("sound").expect("a record");
        let fetched = first.decode().expect("values");
        assert_eq!(fetched.sets[0].instances().len(), 2);
    }
}

/// A logger killed at any byte of its last record leaves everything before that record readable.
#[test]
fn a_torn_record_hides_nothing_before_it() {
    let folder = Folder::new("torn");
    let base = write(&folder, Version::V3);
    let last = base.with_extension("2");
    let whole = fs::read(&last).expect("the last volume");
    let start = Version::V3.label_len() + 8;
    for length in start..whole.len() {
        fs::write(&last, &whole[..length]).expect("a torn volume");
        let archive = Archive::open(&base).expect("an archive");
        assert_eq!(times(&archive, false), [(1001, false), (1002, true)]);
        assert_eq!(times(&archive, true), [(1002, true), (1001, false)]);
    }
}

/// As for records: the index is read up to its last whole entry.
#[test]
fn a_torn_index_is_read_up_to_the_tear() {
    let entry = IndexEntry {
        time: Timestamp::new(1001, 5),
        volume: 0,
        meta: 808,
        log: 808,
    };
    let mut bytes = Vec::new();
    entry.encode(Version::V3, &mut bytes);
    entry.encode(Version::V3, &mut bytes);
    for length in 0..=bytes.len() {
        let torn = Bytes::copy_from_slice(&bytes[..length]);
        let entries = index::read(&torn, Version::V3, 0).expect("entries");
        assert_eq!(entries, vec![entry; length / 32]);
    }
}

#[test]
fn missing_files_have_pcp_codes() {
    let folder = Folder::new("missing");
    let base = write(&folder, Version::V2);
    assert_eq!(
        Archive::open(&base.with_extension("meta"))
            .map(|_| ())
            .map_err(|e| e.code()),
        Ok(())
    );
    fs::remove_file(base.with_extension("meta")).expect("removed");
    let code = |path: &Path| Archive::open(path).err().map(|e| e.code());
    assert_eq!(code(&base), Some(ErrorCode::LOGFILE));
    assert_eq!(code(&folder.0.join("nothing")), Some(ErrorCode(-2)));
}
