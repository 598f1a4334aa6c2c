//! `spile symbols`: what is in a binary.

use crate::debug_files::{self, CacheUse};
use ::symbols::report::{self, FunctionRecord, LineRecord, MarkRecord, PlaceRecord, TypeRecord};
use ::symbols::{Binary, ImageAddr};
use clap::Parser;
use serde::Serialize;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Shows what is in a program or library: functions, lines, marks, variables, types. Names may have * ? [...]
#[derive(Parser, Debug)]
#[command(name = "spile symbols")]
struct Arguments {
    /// Functions of that name, with addresses, sizes, and the lines that declare them
    #[arg(short, long, value_name = "NAME", num_args = 0..=1, default_missing_value = "*")]
    functions: Option<String>,
    /// Addresses of the lines of a source file, or of one line of it
    #[arg(short, long, value_name = "FILE[:LINE]", num_args = 0..=1, default_missing_value = "*")]
    lines: Option<String>,
    /// SDT marks
    #[arg(short, long)]
    marks: bool,
    /// Variables, their types and places, at an address, a line or the entry of a function
    #[arg(short, long, value_name = "0xADDRESS|FILE:LINE|FUNCTION")]
    variables: Option<String>,
    /// Structures, unions, classes and enumerations of that name, with offsets, sizes and holes
    #[arg(short, long, value_name = "NAME", num_args = 0..=1, default_missing_value = "*")]
    types: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Look for debug files below DIR first
    #[arg(long, value_name = "DIR")]
    sysroot: Option<PathBuf>,
    /// The program or library
    file: PathBuf,
}

/// Everything that was asked for.
#[derive(Default, Serialize)]
struct Report {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_id: Option<String>,
    debug_information: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    functions: Option<Vec<FunctionRecord>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<Vec<LineRecord>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    marks: Option<Vec<MarkRecord>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variables: Option<Vec<PlaceRecord>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    types: Option<Vec<TypeRecord>>,
}

/// Runs the command; `args[0]` is the name it was called by.
pub fn main(args: &[OsString]) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Output may be a closed pipe, in which case there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    debug_files::share(arguments.sysroot.clone(), CacheUse::Full, true);
    let report = match gather(&arguments) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("ERROR: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if arguments.json {
        serde_json::to_writer_pretty(&mut out, &report)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        print(&report, &mut out)
    };
    match written.and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read has had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ERROR: {error}");
            ExitCode::FAILURE
        }
    }
}

fn gather(arguments: &Arguments) -> Result<Report, String> {
    let binary = Binary::open(&arguments.file).map_err(|e| e.to_string())?;
    let mut report = Report {
        file: arguments.file.display().to_string(),
        build_id: binary
            .build_id()
            .map(|id| id.iter().map(|b| format!("{b:02x}")).collect()),
        debug_information: binary.has_dwarf(),
        ..Report::default()
    };
    let needs_debug_information =
        arguments.lines.is_some() || arguments.variables.is_some() || arguments.types.is_some();
    if needs_debug_information && !report.debug_information {
        return Err(format!("{}: no debug information", report.file));
    }
    // Without a wish, what every binary can have.
    let nothing = !needs_debug_information && arguments.functions.is_none() && !arguments.marks;
    let everything = nothing.then(|| "*".to_owned());
    if let Some(name) = arguments.functions.clone().or(everything) {
        let found = report::functions(&binary, &name).map_err(|e| e.to_string())?;
        if found.is_empty() && !nothing {
            let similar = binary.similar_names(&name, 5);
            return Err(not_found("function", &name, &similar));
        }
        report.functions = Some(found);
    }
    if arguments.marks || nothing {
        report.marks = Some(report::marks(&binary));
    }
    if let Some(place) = &arguments.lines {
        let (file, line) = source_line(place);
        let found = report::lines(&binary, file, line);
        if found.is_empty() {
            let info = binary.debug_info();
            let similar = info.map(|i| i.similar_files(file, 5)).unwrap_or_default();
            return Err(not_found("line", place, &similar));
        }
        report.lines = Some(found);
    }
    let Some(info) = binary.debug_info() else {
        return Ok(report);
    };
    if let Some(place) = &arguments.variables {
        let mut found = Vec::new();
        for address in addresses(&binary, place)? {
            found.extend(report::variables(&info, address).map_err(|e| e.to_string())?);
        }
        if found.is_empty() {
            return Err(format!("no code with debug information at {place}"));
        }
        report.variables = Some(found);
    }
    if let Some(name) = &arguments.types {
        let found = report::types(&info, name).map_err(|e| e.to_string())?;
        if found.is_empty() {
            return Err(not_found("type", name, &[]));
        }
        report.types = Some(found);
    }
    Ok(report)
}

fn not_found(what: &str, name: &str, similar: &[String]) -> String {
    let similar = match similar.is_empty() {
        true => String::new(),
        false => format!(" (similar: {})", similar.join(", ")),
    };
    format!("no {what} matches '{name}'{similar}")
}

/// `file.c:12` or `file.c`.
fn source_line(place: &str) -> (&str, Option<u64>) {
    match place.rsplit_once(':') {
        Some((file, line)) => match line.parse() {
            Ok(line) => (file, Some(line)),
            Err(_) => (place, None),
        },
        None => (place, None),
    }
}

fn addresses(binary: &Binary, place: &str) -> Result<Vec<ImageAddr>, String> {
    if let Some(digits) = place.strip_prefix("0x") {
        let address = u64::from_str_radix(digits, 16);
        return Ok(vec![ImageAddr(
            address.map_err(|e| format!("{place}: {e}"))?,
        )]);
    }
    if let (file, Some(line)) = source_line(place) {
        let found = report::lines(binary, file, Some(line));
        return match found.is_empty() {
            true => Err(not_found("line", place, &[])),
            false => Ok(found.into_iter().map(|l| ImageAddr(l.address)).collect()),
        };
    }
    let found = binary
        .dwarf_functions_matching(place)
        .map_err(|e| e.to_string())?;
    if found.is_empty() {
        let similar = binary.similar_dwarf_names(place, 5);
        return Err(not_found("function", place, &similar));
    }
    Ok(found.into_iter().map(|f| f.probe_address).collect())
}

fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    for f in report.functions.iter().flatten() {
        write!(out, "{:#x} {:6} {}", f.address, f.size, f.name)?;
        if let Some(demangled) = &f.demangled {
            write!(out, " [{demangled}]")?;
        }
        if let (Some(file), Some(line)) = (&f.file, f.line) {
            write!(out, " {file}:{line}")?;
        }
        writeln!(out)?;
    }
    for mark in report.marks.iter().flatten() {
        write!(
            out,
            "{:#x} mark {}:{}",
            mark.address, mark.provider, mark.name
        )?;
        if let Some(semaphore) = mark.semaphore {
            write!(out, " semaphore {semaphore:#x}")?;
        }
        writeln!(out, " {}", mark.arguments.join(" "))?;
    }
    for line in report.lines.iter().flatten() {
        writeln!(out, "{:#x} {}:{}", line.address, line.file, line.line)?;
    }
    for place in report.variables.iter().flatten() {
        write!(out, "{:#x}", place.address)?;
        if let Some(function) = &place.function {
            write!(out, " {function}")?;
        }
        if let (Some(file), Some(line)) = (&place.file, place.line) {
            write!(out, " {file}:{line}")?;
        }
        writeln!(out)?;
        for v in &place.variables {
            write!(
                out,
                "\t{} {} {}: {}",
                v.kind, v.type_name, v.name, v.location
            )?;
            if !v.available && !v.lines.is_empty() {
                let lines: Vec<String> = v.lines.iter().map(|(a, b)| format!("{a}-{b}")).collect();
                write!(out, ", readable at lines {}", lines.join(", "))?;
            }
            writeln!(out)?;
        }
    }
    for t in report.types.iter().flatten() {
        print_type(t, out)?;
    }
    Ok(())
}

/// In the manner of pahole(1).
fn print_type(t: &TypeRecord, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{} {} {{", t.keyword, t.name)?;
    if let (Some(file), Some(line)) = (&t.file, t.line) {
        write!(out, " /* {file}:{line} */")?;
    }
    writeln!(out)?;
    for (name, value) in &t.enumerators {
        writeln!(out, "\t{name} = {value},")?;
    }
    let mut holes = 0;
    for m in &t.members {
        if m.hole > 0 {
            holes += m.hole;
            writeln!(out, "\t/* {} bytes hole */", m.hole)?;
        }
        let mut text = m.type_name.clone();
        if let Some(name) = &m.name {
            text = format!("{text} {name}");
        }
        if let Some((_, count)) = m.bits {
            text = format!("{text}:{count}");
        }
        if m.role != "member" {
            text = format!("/* {} */ {text}", m.role);
        }
        write!(out, "\t{:<40}", format!("{text};"))?;
        if let Some(offset) = m.offset {
            let bit = m.bits.map(|(low, _)| format!(":{low}")).unwrap_or_default();
            write!(
                out,
                " /* {:>5} {:>5} */",
                format!("{offset}{bit}"),
                m.size.unwrap_or(0)
            )?;
        }
        writeln!(out)?;
    }
    match t.size {
        Some(size) => writeln!(
            out,
            "}}; /* size: {size}, members: {}, holes: {holes} bytes */",
            t.members.len()
        ),
        None => writeln!(out, "}};"),
    }
}
