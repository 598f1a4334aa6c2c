//! The language server, spoken to by Neovim and by hand, and `stap -i` on a terminal.

use serde_json::{Value, json};
use spile_tests::terminal::Terminal;
use spile_tests::{Scratch, need, run, spile_path};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A client of the language server protocol: content-length headers and JSON-RPC, as the specification has them.
struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    next: i64,
    /// Notifications that came while answers were waited for.
    notes: Vec<Value>,
}

impl Client {
    fn start() -> Client {
        let mut child = Command::new(spile_path())
            .args(["stap", "--language-server"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spile");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut client = Client {
            child,
            input,
            output,
            next: 0,
            notes: Vec::new(),
        };
        let answer = client.ask(
            "initialize",
            json!({ "capabilities": {}, "processId": null, "rootUri": null }),
        );
        assert_eq!(answer["serverInfo"]["name"], "spile");
        client.tell("initialized", json!({}));
        client
    }

    fn send(&mut self, message: &Value) {
        let text = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{text}", text.len()).expect("written");
        self.input.flush().expect("written");
    }

    fn receive(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(
                self.output.read_line(&mut line).expect("a line") > 0,
                "the server has gone"
            );
            match line.trim().split_once(": ") {
                Some(("Content-Length", n)) => length = n.parse().expect("a number"),
                Some(_) => {}
                None => break,
            }
        }
        let mut text = vec![0; length];
        self.output.read_exact(&mut text).expect("a message");
        serde_json::from_slice(&text).expect("JSON")
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    fn request(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.receive();
            if message["id"] == id {
                return message;
            }
            self.notes.push(message);
        }
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        let answer = self.request(method, params);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Opens a text; the messages of the compiler.
    fn open(&mut self, text: &str) -> Value {
        let document = json!({ "uri": URI, "languageId": "systemtap", "version": 1, "text": text });
        self.tell("textDocument/didOpen", json!({ "textDocument": document }));
        self.diagnostics()
    }

    fn diagnostics(&mut self) -> Value {
        loop {
            let message = match self.notes.is_empty() {
                true => self.receive(),
                false => self.notes.remove(0),
            };
            if message["method"] == "textDocument/publishDiagnostics" {
                return message["params"]["diagnostics"].clone();
            }
        }
    }

    fn end(mut self) {
        self.ask("shutdown", Value::Null);
        self.tell("exit", Value::Null);
        drop(self.input);
        assert!(self.child.wait().expect("an end").success());
    }
}

const URI: &str = "file:///a.stp";

fn place(line: u32, character: u32) -> Value {
    json!({ "textDocument": { "uri": URI }, "position": { "line": line, "character": character } })
}

#[test]
fn messages_follow_what_is_typed() {
    let mut client = Client::start();
    let found = client.open("probe begin {\n  é = nosuch(1)\n}\n");
    assert!(found[0]["severity"] == 1, "{found}");
    let found = client.open("# é😀\nprobe begin { println(strlne(\"é\")) }\n");
    assert_eq!(
        found[0]["range"]["start"],
        json!({ "line": 1, "character": 22 }),
        "{found}"
    );
    assert_eq!(
        found[0]["range"]["end"],
        json!({ "line": 1, "character": 28 }),
        "{found}"
    );
    let message = found[0]["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("unresolved function strlne (similar: strlen"),
        "{message}"
    );
    let change = json!({
        "textDocument": { "uri": URI, "version": 2 },
        "contentChanges": [{ "text": "probe begin { println(strlen(\"é\")) }\n" }],
    });
    client.tell("textDocument/didChange", change);
    assert_eq!(client.diagnostics(), json!([]));
    // Half a script is no reason to stop, at any place.
    let text = "global a[3]\nfunction f:long(x) { return a[x] }\nprobe timer.s(1), process(\"x\").mark(\"y\") { foreach (k+ in a) println(k, f(1)) }\n";
    for end in (0..text.len()).step_by(3) {
        let change = json!({
            "textDocument": { "uri": URI, "version": 3 },
            "contentChanges": [{ "text": &text[..end] }],
        });
        client.tell("textDocument/didChange", change);
        client.diagnostics();
        let line = text[..end].matches('\n').count() as u32;
        let column = text[..end].rsplit('\n').next().map_or(0, str::len) as u32;
        client.ask("textDocument/completion", place(line, column));
        client.ask("textDocument/hover", place(line, column));
    }
    client.end();
}

#[test]
fn completion_hover_definition_rename_and_layout() {
    let mut client = Client::start();
    let text = "global total\nfunction twice(n) { return 2 * n }\nprobe begin { n = 3; total = twice(n) + strlen(\"x\"); printf(\"%d\", total) }\nprobe tim\n";
    client.open(text);
    let labels = |answer: &Value| -> Vec<String> {
        let items = answer.as_array().expect("a list");
        items
            .iter()
            .map(|i| i["label"].as_str().unwrap_or_default().to_string())
            .collect()
    };
    let body = labels(&client.ask("textDocument/completion", place(2, 14)));
    for name in ["n", "total", "twice", "strlen", "printf", "foreach"] {
        assert!(body.iter().any(|l| l == name), "{name} in {body:?}");
    }
    let points = labels(&client.ask("textDocument/completion", place(3, 9)));
    assert!(
        points.contains(&"timer.ms(number)".to_string()),
        "{points:?}"
    );
    assert!(points.contains(&"timer.profile".to_string()), "{points:?}");
    assert!(!points.contains(&"begin".to_string()), "{points:?}");

    let hover = client.ask("textDocument/hover", place(2, 42));
    let text_of = |hover: &Value| {
        hover["contents"]["value"]
            .as_str()
            .unwrap_or_default()
            .to_string()
    };
    assert!(
        text_of(&hover).contains("strlen:long (s:string)"),
        "{hover}"
    );
    assert!(text_of(&hover).contains("length of a string"), "{hover}");
    let hover = client.ask("textDocument/hover", place(0, 8));
    assert!(text_of(&hover).contains("global total"), "{hover}");

    let definition = client.ask("textDocument/definition", place(2, 31));
    assert_eq!(
        definition["range"]["start"],
        json!({ "line": 1, "character": 9 }),
        "{definition}"
    );
    let definition = client.ask("textDocument/definition", place(2, 42));
    let file = definition["uri"]
        .as_str()
        .unwrap_or_default()
        .replace("file://", "");
    let library = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
    let line = definition["range"]["start"]["line"]
        .as_u64()
        .expect("a line") as usize;
    assert_eq!(
        library.lines().nth(line),
        Some("function strlen:long (s:string)")
    );

    // The parameter, not the local of the same name.
    let mut params = place(1, 15);
    params["newName"] = json!("number");
    let renamed = client.ask("textDocument/rename", params.clone());
    let edits = renamed["changes"][URI].as_array().expect("edits").clone();
    let starts: Vec<(u64, u64)> = edits
        .iter()
        .map(|e| &e["range"]["start"])
        .map(|s| {
            (
                s["line"].as_u64().unwrap_or(99),
                s["character"].as_u64().unwrap_or(99),
            )
        })
        .collect();
    assert_eq!(starts, [(1, 15), (1, 31)]);
    params["newName"] = json!("probe");
    assert!(!client.request("textDocument/rename", params)["error"].is_null());

    client.open("probe begin{x=1+2\n println( x )}");
    let format = json!({ "textDocument": { "uri": URI }, "options": { "tabSize": 4, "insertSpaces": true } });
    let edits = client.ask("textDocument/formatting", format);
    assert_eq!(
        edits[0]["newText"],
        "probe begin {\n    x = 1 + 2\n    println(x)\n}\n"
    );
    let unknown = client.request("textDocument/nonsense", json!({}));
    assert_eq!(unknown["error"]["code"], -32601);
    client.end();
}

#[test]
fn neovim_is_served() {
    need("/usr/bin/nvim");
    let scratch = Scratch::new("nvim");
    let file = scratch.write("a.stp", "probe begin{ println(strlne(\"x\")) }\n");
    let out = scratch.path("out");
    let script = scratch.write(
        "client.lua",
        &format!(
            r#"
vim.cmd('edit {file}')
local buffer = vim.api.nvim_get_current_buf()
local id = vim.lsp.start_client({{ name = 'spile', cmd = {{ '{spile}', 'stap', '--language-server' }}, root_dir = '{root}' }})
vim.lsp.buf_attach_client(buffer, id)
vim.wait(60000, function() return #vim.diagnostic.get(buffer) > 0 end, 20)
local result = {{ diagnostic = vim.diagnostic.get(buffer)[1].message }}
vim.api.nvim_buf_set_lines(buffer, 0, -1, false, {{ 'probe begin{{ println(strlen("x")) }}' }})
vim.wait(60000, function() return #vim.diagnostic.get(buffer) == 0 end, 20)
result.left = #vim.diagnostic.get(buffer)
local at = {{ textDocument = vim.lsp.util.make_text_document_params(buffer), position = {{ line = 0, character = 23 }} }}
local hover = vim.lsp.buf_request_sync(buffer, 'textDocument/hover', at, 60000)
result.hover = hover[id].result.contents.value
local completion = vim.lsp.buf_request_sync(buffer, 'textDocument/completion', at, 60000)
result.completions = #vim.lsp.util.extract_completion_items(completion[id].result)
vim.lsp.buf.formatting_sync(nil, 60000)
result.text = table.concat(vim.api.nvim_buf_get_lines(buffer, 0, -1, false), '\n')
local f = io.open('{out}', 'w')
f:write(vim.json.encode(result))
f:close()
vim.cmd('qall!')
"#,
            file = file.display(),
            spile = spile_path().display(),
            root = scratch.path(".").display(),
            out = out.display(),
        ),
    );
    let mut command = Command::new("/usr/bin/nvim");
    command
        .env("HOME", scratch.path("."))
        .args(["--headless", "--clean", "-n", "-S"])
        .arg(&script);
    let outcome = run(command);
    let text = std::fs::read_to_string(&out).unwrap_or_else(|e| panic!("{e}: {outcome:?}"));
    let result: Value = serde_json::from_str(&text).expect("JSON");
    let message = result["diagnostic"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("unresolved function strlne"),
        "{result}"
    );
    assert_eq!(result["left"], 0, "{result}");
    assert!(
        result["hover"]
            .as_str()
            .unwrap_or_default()
            .contains("length of a string"),
        "{result}"
    );
    assert!(result["completions"].as_u64() > Some(100), "{result}");
    assert_eq!(
        result["text"], "probe begin { println(strlen(\"x\")) }",
        "{result}"
    );
}

/// Functions of a program and the variables of one of them are offered where they may be written.
#[test]
fn what_stands_in_a_program_is_offered() {
    let scratch = Scratch::new("offered");
    let source = "int word(int a) { return a; } int work(int n, char *name) { return n + *name; } int main(void) { return word(0) + work(0, \"\"); }";
    let program = scratch.compile("offered.c", source, &["-g", "-O0"]);
    let program = program.display();
    let first = format!("probe process(\"{program}\").function(\"wo");
    let second = format!("probe process(\"{program}\").function(\"work\") {{ println($");
    let mut client = Client::start();
    client.open(&format!("{second}\n}}\n{first}"));
    let labels = |answer: &Value| -> Vec<String> {
        let items = answer.as_array().expect("a list").iter();
        let label = |item: &Value| item["label"].as_str().unwrap_or_default().to_string();
        items.map(label).collect()
    };
    let offered = client.ask("textDocument/completion", place(2, first.len() as u32));
    assert_eq!(labels(&offered), ["word", "work"]);
    let offered = client.ask("textDocument/completion", place(0, second.len() as u32));
    assert_eq!(labels(&offered)[..2], ["$n", "$name"]);
    client.end();
}

/// A length that no memory can hold is told, and nothing is reserved for it.
#[test]
fn a_message_without_bounds_is_refused() {
    let mut child = Command::new(spile_path())
        .args(["stap", "--language-server"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spile");
    let mut input = child.stdin.take().expect("a pipe");
    input
        .write_all(b"Content-Length: 99999999999\r\n\r\n{}")
        .expect("written");
    let output = child.wait_with_output().expect("an end");
    drop(input);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "ERROR: language server: a message of 99999999999 bytes is announced; more than 268435456 are not taken\n"
    );
}

/// Waits until a line can be typed: the editor has switched bracketed paste on.
fn ready(terminal: &mut Terminal) {
    terminal.expect("\u{1b}[?2004h");
    terminal.expect("stap> ");
}

#[test]
fn scripts_are_built_and_run_on_a_terminal() {
    let scratch = Scratch::new("repl");
    // The shell tells the editor's status: script(1) may look for it before its child has one.
    // It gets the editor's Ctrl-C, too, and has to outlive that.
    let command = format!(
        "trap : INT; {} stap -i; echo status=$?.",
        spile_path().display()
    );
    let mut terminal = Terminal::start(&command, &scratch.path("."));
    ready(&mut terminal);
    // A value is shown at once.
    terminal.type_in("6*7\n");
    terminal.expect("42\r\n");
    ready(&mut terminal);
    // Tab completes; an open brace asks for more lines.
    terminal.type_in("global sum = 5\n");
    ready(&mut terminal);
    terminal.type_in("probe onesh\t {\n");
    terminal.expect("oneshot");
    terminal.type_in("println(\"it is \", sum)\n}\n");
    ready(&mut terminal);
    terminal.type_in("sum + strle\t(\"abc\")\n");
    terminal.expect("8\r\n");
    ready(&mut terminal);
    terminal.type_in("run\n");
    terminal.expect("it is 5\r\n");
    ready(&mut terminal);
    // A mistake is told, and nothing is added.
    terminal.type_in("probe begin { x = }\n");
    terminal.expect("parse error");
    ready(&mut terminal);
    terminal.type_in("list\n");
    terminal.expect("2  probe oneshot {");
    ready(&mut terminal);
    // Ctrl-D gives up a text that is not finished, and only that.
    terminal.type_in("probe end {\n");
    terminal.type_in("\x04");
    ready(&mut terminal);
    terminal.type_in("6*9\n");
    terminal.expect("54\r\n");
    ready(&mut terminal);
    // Ctrl-C ends what runs, not the editor.
    terminal.type_in("delete\n");
    ready(&mut terminal);
    terminal.type_in(
        "probe begin { println(\"wait\", \"ing\") } probe end { println(\"en\", \"ded\") }\n",
    );
    ready(&mut terminal);
    terminal.type_in("run\n");
    terminal.expect("waiting\r\n");
    terminal.type_in("\x03");
    terminal.expect("ended\r\n");
    ready(&mut terminal);
    terminal.type_in("help strpos\n");
    terminal.expect("strpos:long (s1:string, s2:string)");
    ready(&mut terminal);
    terminal.type_in("quit\n");
    terminal.expect("status=0.");
    terminal.child.wait().expect("an end");
    let history = std::fs::read_to_string(scratch.path("history")).expect("a history");
    assert!(history.contains("6*7"), "{history}");
}

#[test]
fn a_signal_ends_the_editor_and_leaves_the_terminal_as_it_was() {
    let scratch = Scratch::new("repl-signal");
    let pid = scratch.path("pid");
    let command = format!(
        "before=$(stty -g); sh -c 'echo $$ > {}; exec {} stap -i'; echo status=$?.; \
         test \"$before\" = \"$(stty -g)\" && echo as it was.",
        pid.display(),
        spile_path().display()
    );
    let mut terminal = Terminal::start(&command, &scratch.path("."));
    ready(&mut terminal);
    terminal.type_in("6*7\n");
    terminal.expect("42\r\n");
    ready(&mut terminal);
    let pid = std::fs::read_to_string(pid).expect("its number");
    let mut kill = Command::new("sh");
    kill.args(["-c", &format!("kill -s TERM {pid}")]);
    assert!(kill.status().expect("sh").success());
    terminal.expect("\u{1b}[?2004l");
    // 128 and the signal's number.
    terminal.expect("status=143.");
    terminal.expect("as it was.");
    terminal.child.wait().expect("an end");
}
