//! The server: one request after the other, from standard input to standard output.

use crate::analysis;
use crate::completion::{self, Lister};
use crate::document::{Columns, Document};
use crate::names::{Meaning, Names, is_name};
use crate::transport;
use lsp_server::{Connection, Message, Notification, Request, Response};
use lsp_types::notification::{
    DidChangeTextDocument, DidCloseTextDocument, DidOpenTextDocument, Notification as _,
    PublishDiagnostics,
};
use lsp_types::request::{
    Completion, DocumentSymbolRequest, Formatting, GotoDefinition, HoverRequest,
    PrepareRenameRequest, References, Rename, Request as _,
};
use lsp_types::{
    CompletionOptions, CompletionParams, DidChangeTextDocumentParams, DidCloseTextDocumentParams,
    DidOpenTextDocumentParams, DocumentFormattingParams, DocumentSymbol, DocumentSymbolParams,
    GotoDefinitionParams, Hover, HoverContents, HoverParams, HoverProviderCapability,
    InitializeParams, Location, MarkupContent, MarkupKind, OneOf, Position,
    PublishDiagnosticsParams, ReferenceParams, RenameOptions, RenameParams, ServerCapabilities,
    SymbolKind, TextDocumentPositionParams, TextDocumentSyncCapability, TextDocumentSyncKind,
    TextEdit, Uri,
};
use script::reference::{self, Entry, Kind};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Why the server ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The editor does not keep to the protocol.
    #[error("language server: {0}")]
    Protocol(#[from] lsp_server::ProtocolError),
    /// Standard input or output.
    #[error("language server: {0}")]
    Io(#[from] std::io::Error),
    /// Something that is not the JSON that it should be.
    #[error("language server: {0}")]
    Json(#[from] serde_json::Error),
    /// A line that should be a header.
    #[error("language server: '{0}' is no header of a message")]
    Header(String),
    /// Headers without the one that matters.
    #[error("language server: a message without Content-Length")]
    NoLength,
    /// More than any editor sends.
    #[error(
        "language server: a message of {0} bytes is announced; more than 268435456 are not taken"
    )]
    TooLong(u64),
    /// The end where none should be.
    #[error("language server: the input ends within a message")]
    Cut,
    /// The editor has gone.
    #[error("language server: the editor does not listen any more")]
    Gone,
}

/// Code of a request that can't be carried out, JSON-RPC's InvalidParams.
const INVALID: i32 = -32602;
/// Code of a request that is not known, JSON-RPC's MethodNotFound.
const UNKNOWN: i32 = -32601;

/// Serves an editor on standard input and output until it says that it is over. `tapset_dirs` are those of `-I`, `list`
/// tells what probe points mean.
///
/// # Errors
/// When the editor leaves without a word, or does not keep to the protocol.
pub fn run(tapset_dirs: &[PathBuf], list: Lister<'_>) -> Result<(), ServerError> {
    let (connection, threads) = transport::standard();
    let served = serve(&connection, tapset_dirs, list);
    drop(connection);
    match served {
        Ok(()) => threads.join(),
        // What was wrong with the input tells more than that there is no more of it.
        Err(error) => Err(threads.failure().unwrap_or(error)),
    }
}

/// Serves one connection to its end.
///
/// # Errors
/// As for [`run`].
pub fn serve(
    connection: &Connection,
    tapset_dirs: &[PathBuf],
    list: Lister<'_>,
) -> Result<(), ServerError> {
    let (id, params) = connection.initialize_start()?;
    let params: InitializeParams = serde_json::from_value(params)?;
    let general = params.capabilities.general.as_ref();
    let columns = Columns::choose(general.and_then(|g| g.position_encodings.as_deref()));
    let answer = json!({
        "capabilities": capabilities(columns),
        "serverInfo": { "name": "spile", "version": env!("CARGO_PKG_VERSION") },
    });
    connection.initialize_finish(id, answer)?;
    let mut library = reference::built_in();
    for directory in tapset_dirs {
        library.extend(reference::directory(directory));
    }
    let mut server = Server {
        connection,
        columns,
        dirs: tapset_dirs.to_vec(),
        library,
        list,
        documents: HashMap::new(),
    };
    for message in &connection.receiver {
        match message {
            Message::Request(request) => {
                if connection.handle_shutdown(&request)? {
                    return Ok(());
                }
                let response = server.answer(request);
                server.send(Message::Response(response))?;
            }
            Message::Notification(notification) => server.note(notification)?,
            Message::Response(_) => {}
        }
    }
    Ok(())
}

fn capabilities(columns: Columns) -> ServerCapabilities {
    ServerCapabilities {
        position_encoding: Some(columns.kind()),
        text_document_sync: Some(TextDocumentSyncCapability::Kind(TextDocumentSyncKind::FULL)),
        completion_provider: Some(CompletionOptions {
            trigger_characters: Some([".", "@", "$", "*", "\""].map(str::to_string).into()),
            ..CompletionOptions::default()
        }),
        hover_provider: Some(HoverProviderCapability::Simple(true)),
        definition_provider: Some(OneOf::Left(true)),
        references_provider: Some(OneOf::Left(true)),
        document_symbol_provider: Some(OneOf::Left(true)),
        document_formatting_provider: Some(OneOf::Left(true)),
        rename_provider: Some(OneOf::Right(RenameOptions {
            prepare_provider: Some(true),
            work_done_progress_options: Default::default(),
        })),
        ..ServerCapabilities::default()
    }
}

struct Server<'c> {
    connection: &'c Connection,
    columns: Columns,
    dirs: Vec<PathBuf>,
    library: Vec<Entry>,
    list: Lister<'c>,
    /// By URI.
    documents: HashMap<String, Document>,
}

type Answer = Result<Value, String>;

impl Server<'_> {
    fn send(&self, message: Message) -> Result<(), ServerError> {
        let sent = self.connection.sender.send(message);
        sent.map_err(|_| ServerError::Gone)
    }

    fn note(&mut self, notification: Notification) -> Result<(), ServerError> {
        let params = notification.params;
        match notification.method.as_str() {
            DidOpenTextDocument::METHOD => {
                let p: DidOpenTextDocumentParams = serde_json::from_value(params)?;
                self.open(p.text_document.uri, p.text_document.text)
            }
            DidChangeTextDocument::METHOD => {
                let p: DidChangeTextDocumentParams = serde_json::from_value(params)?;
                // Whole texts are what was asked for; the last one holds.
                match p.content_changes.into_iter().next_back() {
                    Some(change) => self.open(p.text_document.uri, change.text),
                    None => Ok(()),
                }
            }
            DidCloseTextDocument::METHOD => {
                let p: DidCloseTextDocumentParams = serde_json::from_value(params)?;
                self.documents.remove(p.text_document.uri.as_str());
                self.publish(p.text_document.uri, Vec::new())
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, uri: Uri, text: String) -> Result<(), ServerError> {
        let document = Document::new(text, self.columns);
        let diagnostics = analysis::diagnostics(&document, &uri, &self.dirs);
        self.documents.insert(uri.as_str().to_string(), document);
        self.publish(uri, diagnostics)
    }

    fn publish(
        &self,
        uri: Uri,
        diagnostics: Vec<lsp_types::Diagnostic>,
    ) -> Result<(), ServerError> {
        let params = PublishDiagnosticsParams {
            uri,
            diagnostics,
            version: None,
        };
        self.send(Message::Notification(Notification::new(
            PublishDiagnostics::METHOD.to_string(),
            params,
        )))
    }

    fn answer(&self, request: Request) -> Response {
        let id = request.id;
        let params = request.params;
        let answer = match request.method.as_str() {
            Completion::METHOD => with(params, |p| self.complete(p)),
            HoverRequest::METHOD => with(params, |p| self.hover(p)),
            GotoDefinition::METHOD => with(params, |p| self.definition(p)),
            References::METHOD => with(params, |p| self.references(p)),
            PrepareRenameRequest::METHOD => with(params, |p| self.prepare_rename(p)),
            Rename::METHOD => with(params, |p| self.rename(p)),
            Formatting::METHOD => with(params, |p| self.format(p)),
            DocumentSymbolRequest::METHOD => with(params, |p| self.symbols(p)),
            method => {
                return Response::new_err(id, UNKNOWN, format!("no such request: {method}"));
            }
        };
        match answer {
            Ok(value) => Response::new_ok(id, value),
            Err(message) => Response::new_err(id, INVALID, message),
        }
    }

    fn document(&self, uri: &Uri) -> Result<&Document, String> {
        let document = self.documents.get(uri.as_str());
        document.ok_or_else(|| format!("{} is not open", uri.as_str()))
    }

    fn complete(&self, p: CompletionParams) -> Answer {
        let at = p.text_document_position;
        let document = self.document(&at.text_document.uri)?;
        let names = Names::of(&document.text);
        let offset = document.offset(at.position);
        value(completion::complete(
            document,
            &names,
            &self.library,
            self.list,
            offset,
        ))
    }

    fn hover(&self, p: HoverParams) -> Answer {
        let at = p.text_document_position_params;
        let document = self.document(&at.text_document.uri)?;
        let offset = document.offset(at.position);
        let names = Names::of(&document.text);
        let Some(word) = names.at(offset) else {
            return Ok(Value::Null);
        };
        let signature = |text: &str| format!("```systemtap\n{text}\n```");
        let text = match names.meaning(word) {
            Meaning::Function(_) => {
                let scope = names.scopes.iter().find(|s| s.title == word.text);
                let parameters = scope.map(|s| s.parameters.join(", ")).unwrap_or_default();
                signature(&format!("function {}({parameters})", word.text))
            }
            Meaning::Global(_) => {
                let (compilation, _) = analysis::analyse(&document.text, &self.dirs);
                match analysis::type_of_global(&compilation, &word.text) {
                    Some(ty) => signature(&format!("global {}: {ty}", word.text)),
                    None => signature(&format!("global {}", word.text)),
                }
            }
            Meaning::Local(_) => signature(&format!("{} (local)", word.text)),
            Meaning::Other if word.is_part => self.describe_point(document, &names, word.range.end),
            Meaning::Other => self.describe(&word.text),
        };
        if text.is_empty() {
            return Ok(Value::Null);
        }
        value(Hover {
            contents: HoverContents::Markup(MarkupContent {
                kind: MarkupKind::Markdown,
                value: text,
            }),
            range: Some(document.range(word.range.start, word.range.end)),
        })
    }

    /// The library's functions of that name, or the operator.
    fn describe(&self, name: &str) -> String {
        let built_in = completion::OPERATORS.iter().chain(completion::CONTEXT);
        if let Some((word, what)) = built_in.clone().find(|(word, _)| *word == name) {
            return format!("`{word}`: {what}");
        }
        let functions = self.library.iter();
        let found: Vec<String> = functions
            .filter(|e| e.kind == Kind::Function && e.name == name)
            .map(|e| format!("```systemtap\n{}\n```\n{}", e.signature(), e.text()))
            .collect();
        found.join("\n\n---\n\n")
    }

    /// The alias whose name ends at a byte of a list of probe points.
    fn describe_point(&self, document: &Document, names: &Names, end: usize) -> String {
        let scope = names.scopes.iter().find(|s| s.name.contains(&(end - 1)));
        let start = scope.map_or(0, |s| s.name.start);
        let text = document.text.get(start..end).unwrap_or_default();
        let point = text
            .rsplit([',', '=', ' ', '\n'])
            .next()
            .unwrap_or_default();
        let entry = self
            .library
            .iter()
            .filter(|e| e.kind == Kind::Alias)
            .find(|e| e.name == point)
            .or_else(|| {
                let rest = document.text.get(end..).unwrap_or_default();
                let more = rest.split([',', ' ', '\n', '{']).next().unwrap_or_default();
                let whole = format!("{point}{more}");
                self.library.iter().find(|e| e.name == whole)
            });
        match entry {
            Some(e) => format!("```systemtap\nprobe {}\n```\n{}", e.signature(), e.text()),
            None => String::new(),
        }
    }

    fn definition(&self, p: GotoDefinitionParams) -> Answer {
        let at = p.text_document_position_params;
        let uri = at.text_document.uri;
        let document = self.document(&uri)?;
        let names = Names::of(&document.text);
        let Some(word) = names.at(document.offset(at.position)) else {
            return Ok(Value::Null);
        };
        let range = match names.meaning(word) {
            Meaning::Function(range) | Meaning::Global(range) => Some(range),
            Meaning::Local(_) => names.same(word).into_iter().next(),
            Meaning::Other => None,
        };
        if let Some(range) = range {
            return value(Location {
                uri,
                range: document.range(range.start, range.end),
            });
        }
        let entry = self.library.iter().find(|e| e.name == word.text);
        match entry.and_then(|e| Some((file_of(e)?, e.line))) {
            Some((uri, line)) => value(Location {
                uri,
                range: lsp_types::Range {
                    start: Position::new(line as u32, 0),
                    end: Position::new(line as u32, 0),
                },
            }),
            None => Ok(Value::Null),
        }
    }

    fn references(&self, p: ReferenceParams) -> Answer {
        let at = p.text_document_position;
        let uri = at.text_document.uri;
        let document = self.document(&uri)?;
        let names = Names::of(&document.text);
        let Some(word) = names.at(document.offset(at.position)) else {
            return Ok(Value::Null);
        };
        let places = names.same(word).into_iter().map(|range| Location {
            uri: uri.clone(),
            range: document.range(range.start, range.end),
        });
        value(places.collect::<Vec<Location>>())
    }

    fn prepare_rename(&self, p: TextDocumentPositionParams) -> Answer {
        let document = self.document(&p.text_document.uri)?;
        let names = Names::of(&document.text);
        match names.at(document.offset(p.position)) {
            Some(word) if names.meaning(word) != Meaning::Other => {
                value(document.range(word.range.start, word.range.end))
            }
            _ => Ok(Value::Null),
        }
    }

    fn rename(&self, p: RenameParams) -> Answer {
        let at = p.text_document_position;
        let uri = at.text_document.uri;
        let document = self.document(&uri)?;
        let names = Names::of(&document.text);
        if !is_name(&p.new_name) {
            return Err(format!("'{}' is no name", p.new_name));
        }
        let Some(word) = names.at(document.offset(at.position)) else {
            return Err("there is no name here".to_string());
        };
        let places = names.same(word);
        if places.is_empty() {
            return Err(format!("'{}' does not belong to this script", word.text));
        }
        let clash = names
            .words
            .iter()
            .find(|w| w.text == p.new_name && clashes(&names, word, w));
        if let Some(clash) = clash {
            return Err(format!("'{}' means something else here", clash.text));
        }
        let edits = places.into_iter().map(|range| TextEdit {
            range: document.range(range.start, range.end),
            new_text: p.new_name.clone(),
        });
        let edits: Vec<TextEdit> = edits.collect();
        // A WorkspaceEdit.
        Ok(json!({ "changes": { uri.as_str(): edits } }))
    }

    fn format(&self, p: DocumentFormattingParams) -> Answer {
        let document = self.document(&p.text_document.uri)?;
        let text = formatter::format("<input>", &document.text).map_err(|e| e.to_string())?;
        if text == document.text {
            return value(Vec::<TextEdit>::new());
        }
        value(vec![TextEdit {
            range: document.range(0, document.text.len()),
            new_text: text,
        }])
    }

    #[allow(deprecated)]
    fn symbols(&self, p: DocumentSymbolParams) -> Answer {
        let document = self.document(&p.text_document.uri)?;
        let names = Names::of(&document.text);
        let symbol =
            |name: &str, kind, all: &std::ops::Range<usize>, own: &std::ops::Range<usize>| {
                DocumentSymbol {
                    name: name.to_string(),
                    detail: None,
                    kind,
                    tags: None,
                    deprecated: None,
                    range: document.range(all.start.min(own.start), all.end.max(own.end)),
                    selection_range: document.range(own.start, own.end),
                    children: None,
                }
            };
        let globals = names.globals.iter();
        let mut symbols: Vec<DocumentSymbol> = globals
            .map(|(name, range)| symbol(name, SymbolKind::VARIABLE, range, range))
            .collect();
        for scope in names.scopes.iter().filter(|s| !s.title.is_empty()) {
            let kind = match scope.keyword.as_str() {
                "function" => SymbolKind::FUNCTION,
                _ => SymbolKind::EVENT,
            };
            symbols.push(symbol(&scope.title, kind, &scope.range, &scope.name));
        }
        value(symbols)
    }
}

/// Whether a name that is written already would be taken for the renamed one, or the other way round.
fn clashes(names: &Names, renamed: &crate::names::Word, other: &crate::names::Word) -> bool {
    match (names.meaning(renamed), names.meaning(other)) {
        (_, Meaning::Other) => false,
        (Meaning::Function(_), Meaning::Function(_)) => true,
        (Meaning::Function(_), _) | (_, Meaning::Function(_)) => false,
        (Meaning::Local(a), Meaning::Local(b)) => a == b,
        _ => true,
    }
}

/// A file with the text of the library that declares the entry: for what is built in, one that is made for editors.
fn file_of(entry: &Entry) -> Option<Uri> {
    let path = Path::new(&entry.file);
    if path.is_absolute() {
        return uri(path);
    }
    let (name, text) = script::tapset::embedded().find(|(name, _)| *name == entry.file)?;
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".cache"),
    };
    let path = cache
        .join("spile")
        .join(env!("CARGO_PKG_VERSION"))
        .join(name);
    std::fs::create_dir_all(path.parent()?).ok()?;
    if std::fs::read_to_string(&path).ok().as_deref() != Some(text) {
        std::fs::write(&path, text).ok()?;
    }
    uri(&path)
}

fn uri(path: &Path) -> Option<Uri> {
    let mut text = String::from("file://");
    for byte in path.to_str()?.bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'~' => text.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text.parse().ok()
}

fn with<P: DeserializeOwned>(params: Value, answer: impl FnOnce(P) -> Answer) -> Answer {
    answer(serde_json::from_value(params).map_err(|e| e.to_string())?)
}

fn value(answer: impl serde::Serialize) -> Answer {
    serde_json::to_value(answer).map_err(|e| e.to_string())
}
