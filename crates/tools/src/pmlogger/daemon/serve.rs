//! A logger's client: pmlc(1) or the like.

use pcp::pdu::log::{REQUEST_NEW_VOLUME, REQUEST_STATUS, REQUEST_SYNC};
use pcp::pdu::{LogControl, LogStatus, Pdu};
use pcp::{ErrorCode, Text, Timestamp};

use super::super::access::Operations;
use super::super::control::Client;
use super::super::request;
use super::super::states::log_once;
use super::identity::own_timezone;
use super::{Daemon, End};

impl Daemon<'_> {
    pub(super) fn new_client(&mut self) {
        while let Some(mut client) = self.control.accept() {
            let operations = self.access.operations(client.address);
            let pid = std::process::id() as i32;
            let code = if operations == Operations::NONE {
                ErrorCode::PERMISSION
            } else if self.client.is_some() {
                ErrorCode::ISCONN
            } else {
                ErrorCode(self.options.control_version)
            };
            let greeting = Pdu::Error { code, info: None };
            if client.send(&greeting, pid).is_ok() && !code.is_error() {
                self.client = Some((client, operations));
            }
        }
    }

    pub(super) fn serve(&mut self) -> Result<(), End> {
        let Some((mut client, operations)) = self.client.take() else {
            return Ok(());
        };
        // Whoever sends rubbish, or nothing more, goes.
        let Ok(pdus) = client.receive() else {
            return Ok(());
        };
        for pdu in pdus {
            let answer = match pdu {
                Pdu::Creds(creds) => {
                    let version = creds.iter().find(|c| c.ty == pcp::pdu::Cred::VERSION);
                    client.version = version.map(|c| c.bytes[0]);
                    continue;
                }
                Pdu::LogRequest(kind) => self.answer_request(kind, &client, operations)?,
                Pdu::LogControl(control) => self.answer_control(&control, &client, operations)?,
                _ => return Ok(()),
            };
            if client.send(&answer, 0).is_err() {
                return Ok(());
            }
        }
        self.client = Some((client, operations));
        Ok(())
    }

    fn answer_request(
        &mut self,
        kind: i32,
        client: &Client,
        operations: Operations,
    ) -> Result<Pdu, End> {
        let code = match kind {
            REQUEST_STATUS => {
                let status = self.status();
                let newer = client
                    .version
                    .is_some_and(|v| i32::from(v) >= pcp::pdu::log::VERSION)
                    && self.options.control_version >= pcp::pdu::log::VERSION;
                return Ok(if newer {
                    Pdu::LogStatus(status)
                } else {
                    Pdu::LogStatusV2(status)
                });
            }
            REQUEST_NEW_VOLUME if !operations.meets(Operations::MANDATORY) => ErrorCode::PERMISSION,
            REQUEST_NEW_VOLUME => {
                self.next_volume("pmlc request")?;
                ErrorCode(self.recorder.label().volume)
            }
            REQUEST_SYNC => ErrorCode::OK,
            _ => ErrorCode::IPC,
        };
        Ok(Pdu::Error { code, info: None })
    }

    fn status(&self) -> LogStatus {
        LogStatus {
            state: 1,
            start: self.recorder.label().start,
            last: self.recorder.last(),
            now: Timestamp::now(),
            volume: self.recorder.label().volume,
            size: self.recorder.volume_bytes(),
            hostname: self.host.as_str().into(),
            fqdn: self.source.as_str().into(),
            timezone: self.zone.0.as_str().into(),
            zoneinfo: self.zone.1.as_str().into(),
            logger_timezone: own_timezone().into(),
            logger_zoneinfo: Text::default(),
        }
    }

    fn answer_control(
        &mut self,
        control: &LogControl,
        client: &Client,
        operations: Operations,
    ) -> Result<Pdu, End> {
        let error = |code| Pdu::Error { code, info: None };
        let Some(operation) = request::operation(control) else {
            return Ok(error(ErrorCode::IPC));
        };
        let changes = operation != Operations::ALL;
        let mut said = String::new();
        if changes {
            said = format!(
                "\n{}\npmlc request from {}: {}\n",
                self.log.date(),
                client.name,
                request::describe(control)
            );
        }
        if !operations.meets(operation) {
            said.push_str(&format!("Error: {}\n", ErrorCode::PERMISSION));
            self.log.say(&said);
            return Ok(error(ErrorCode::PERMISSION));
        }
        if !self.connected {
            return Ok(error(ErrorCode::NOTCONN));
        }
        let states = &mut self.resolver.states;
        let answer = match request::carry_out(control, states, &mut self.context) {
            Ok(answer) => answer,
            Err(problem) => {
                self.lost()?;
                return Ok(error(problem.code()));
            }
        };
        if changes {
            said.push_str(&answer.said);
            self.log.say(&said);
        }
        if answer.changed {
            self.reschedule();
        }
        if !answer.once.is_empty() {
            let mandatory = operation == Operations::MANDATORY;
            let task = log_once(mandatory, &answer.once, self.clock());
            self.tasks.push(task);
        }
        Ok(Pdu::Result(answer.result))
    }
}
