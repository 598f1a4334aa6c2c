//! Containers of this host, of Docker and Podman: found by name, and entered.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

/// A container that runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Container {
    /// Its identifier: hexadecimal digits.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// Its first process.
    pub pid: i32,
}

/// What can be a container's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Namespace {
    /// Interfaces, addresses, connections.
    Network,
    /// The host's name.
    Names,
    /// System V's objects.
    Ipc,
}

impl Namespace {
    fn parts(self) -> (&'static str, CloneFlags) {
        match self {
            Namespace::Network => ("net", CloneFlags::CLONE_NEWNET),
            Namespace::Names => ("uts", CloneFlags::CLONE_NEWUTS),
            Namespace::Ipc => ("ipc", CloneFlags::CLONE_NEWIPC),
        }
    }
}

impl Container {
    /// The running container of that name, or whose identifier begins so. Looked for where Docker and Podman keep what they
    /// know: `$PCP_DOCKER_DIR`, `$PCP_PODMAN_DATADIR` and `$PCP_PODMAN_RUNDIR`, or their usual folders.
    #[must_use]
    pub fn find(name: &str) -> Option<Container> {
        let name = name.trim_start_matches('/');
        if name.is_empty() {
            return None;
        }
        let folder = |variable: &str, usual: &str| {
            PathBuf::from(pcp::config(variable).unwrap_or_else(|| usual.to_owned()))
        };
        let mut all = docker(&folder("PCP_DOCKER_DIR", "/var/lib/docker"));
        all.extend(podman(
            &folder(
                "PCP_PODMAN_DATADIR",
                "/var/lib/containers/storage/overlay-containers",
            ),
            &folder(
                "PCP_PODMAN_RUNDIR",
                "/var/run/containers/storage/overlay-containers",
            ),
        ));
        let named = all.iter().position(|container| container.name == name);
        let found = named.or_else(|| all.iter().position(|c| c.id.starts_with(name)))?;
        Some(all.swap_remove(found))
    }

    /// The control group that its processes are in, as the host sees it.
    #[must_use]
    pub fn control_group(&self) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).ok()?;
        let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let path = paths.max_by_key(|path| (path.contains(&self.id), path.len()))?;
        Some(path.to_owned()).filter(|path| path != "/")
    }

    /// Does something as a process of the container would, as far as those namespaces go. What is read below `/proc` and
    /// `/sys` is still the host's, but for what the kernel makes for the thread that reads.
    ///
    /// # Errors
    /// What the system says: `EPERM` for others than root, `ENOENT` when the container has ended.
    pub fn within<T: Send>(
        &self,
        namespaces: &[Namespace],
        what: impl FnOnce() -> T + Send,
    ) -> io::Result<T> {
        let enter = || -> io::Result<T> {
            for namespace in namespaces {
                let (name, flag) = namespace.parts();
                let file = File::open(format!("/proc/{}/ns/{name}", self.pid))?;
                setns(file, flag)?;
            }
            Ok(what())
        };
        // A thread that has entered a namespace is not fit for anything else.
        thread::scope(|scope| match scope.spawn(enter).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// The name that its host has.
    ///
    /// # Errors
    /// As [`Container::within`].
    pub fn hostname(&self) -> io::Result<String> {
        let name = self.within(&[Namespace::Names], nix::unistd::gethostname)??;
        Ok(name.to_string_lossy().into_owned())
    }
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Docker's containers: a folder each, of their identifiers.
fn docker(folder: &Path) -> Vec<Container> {
    let Ok(entries) = fs::read_dir(folder.join("containers")) else {
        return Vec::new();
    };
    let found = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let file = |name: &str| json(&entry.path().join(name));
        let known = file("config.v2.json").or_else(|| file("config.json"))?;
        let state = known.get("State")?;
        let runs = state.get("Running").and_then(Value::as_bool) == Some(true);
        Some(Container {
            id: entry.file_name().into_string().ok()?,
            name: known.get("Name")?.as_str()?.trim_start_matches('/').into(),
            pid: pid(state.get("Pid")?.as_i64().filter(|_| runs)?)?,
        })
    });
    found.collect()
}

/// Podman's containers: a list of them, and a folder each of those that run.
fn podman(data: &Path, run: &Path) -> Vec<Container> {
    let Some(Value::Array(list)) = json(&data.join("containers.json")) else {
        return Vec::new();
    };
    let found = list.iter().filter_map(|known| {
        let id = known.get("id")?.as_str()?;
        // It names a folder.
        if !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let name = known.get("names")?.get(0)?.as_str()?;
        let text = fs::read_to_string(run.join(id).join("userdata/pidfile")).ok()?;
        Some(Container {
            id: id.to_owned(),
            name: name.to_owned(),
            pid: pid(text.trim().parse().ok()?)?,
        })
    });
    found.collect()
}

fn pid(number: i64) -> Option<i32> {
    i32::try_from(number).ok().filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_and_podman_know() {
        let name = format!("spile-containers-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("folder")).expect("folder");
            fs::write(path, text).expect("file");
        };
        write(
            "containers/ab12/config.v2.json",
            r#"{"ID":"ab12","Name":"/web","State":{"Running":true,"Pid":4242}}"#,
        );
        write(
            "containers/cd34/config.v2.json",
            r#"{"ID":"cd34","Name":"/off","State":{"Running":false,"Pid":0}}"#,
        );
        write("containers/bad/config.v2.json", "{");
        write(
            "containers.json",
            r#"[{"id":"ef56","names":["db"]},{"id":"aa00","names":["gone"]},{"id":"../x","names":["y"]}]"#,
        );
        write("ef56/userdata/pidfile", "77\n");
        let (docker, podman) = (docker(&folder), podman(&folder, &folder));
        fs::remove_dir_all(&folder).expect("removed");
        let shown = |all: Vec<Container>| -> Vec<(String, String, i32)> {
            all.into_iter().map(|c| (c.id, c.name, c.pid)).collect()
        };
        assert_eq!(shown(docker), [("ab12".into(), "web".into(), 4242)]);
        assert_eq!(shown(podman), [("ef56".into(), "db".into(), 77)]);
    }
}
