//! Commands that are sent together to one server, and what must have happened before their answers count.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    Arg, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, Script, ServerErrorKind, Value,
};
use tracing::{Span, field, info_span};

use super::{Cause, StoreError, load};

/// How long replicas are waited for, a part of the deadline.
const WAIT: Duration = Duration::from_millis(200);

/// Commands for one server.
pub(in crate::store) struct Call {
    commands: redis::Pipeline,
    /// What must be loaded where the server does not have it.
    script: Option<Script>,
    /// How many replicas must have what was written.
    wanted: u32,
}

impl Call {
    /// These commands, of which some may run a script.
    pub(super) fn of(commands: impl IntoIterator<Item = Cmd>, script: Option<&Script>) -> Self {
        let mut pipeline = redis::pipe();
        // Each error by itself: taken together they would not tell where a key has gone.
        pipeline.ignore_errors();
        for command in commands {
            pipeline.add_command(command);
        }
        Self {
            commands: pipeline,
            script: script.cloned(),
            wanted: 0,
        }
    }

    /// One script.
    pub(in crate::store) fn script(script: &Script, keys: &[String], args: &[String]) -> Self {
        Self::of([evaluation(script, keys, args)], Some(script))
    }

    /// Waits for so many replicas. Not inside a script or a transaction, where it does not wait.
    pub(in crate::store) fn acknowledged_by(mut self, wanted: u32) -> Self {
        if wanted > 0 {
            let millis = u64::try_from(WAIT.as_millis()).unwrap_or(u64::MAX);
            self.commands.cmd("WAIT").arg(wanted).arg(millis);
        }
        self.wanted = wanted;
        self
    }

    /// What stands in a trace for it, as OpenTelemetry's conventions for databases have it. Keys and values are left out: they
    /// name people.
    /// Only a request that has a trace has it: what is done in the background would be traces of one span.
    pub(super) fn span(&self) -> Span {
        if Span::current().is_none() {
            return Span::none();
        }
        let span = info_span!(
            target: "portcullis::trace",
            "redis",
            otel.name = field::Empty,
            otel.kind = "client",
            otel.status_code = field::Empty,
            db.system.name = "redis",
            db.operation.name = field::Empty,
        );
        if !span.is_disabled() {
            let mut commands = self.commands.cmd_iter();
            let first = commands
                .next()
                .and_then(|command| command.args_iter().next());
            let name = match (first, commands.next()) {
                (Some(Arg::Simple(name)), None) => String::from_utf8_lossy(name).into_owned(),
                // With a WAIT after it, or several of the same kind.
                (Some(Arg::Simple(name)), Some(_)) => {
                    format!("PIPELINE {}", String::from_utf8_lossy(name))
                }
                _ => "PIPELINE".to_owned(),
            };
            span.record("otel.name", &name);
            span.record("db.operation.name", &name);
        }
        span
    }

    /// Sends the commands, and loads the script and sends them again where the server does not have it. Returns an answer for
    /// each.
    pub(in crate::store) async fn make(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Vec<Value>, StoreError> {
        let mut answers = match (self.send(connection).await, &self.script) {
            (Err(error), Some(script))
                if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) =>
            {
                load(connection, &[script]).await?;
                self.send(connection).await?
            }
            (answers, _) => answers?,
        };
        if self.wanted > 0 {
            let by = answers.pop().map(redis::from_redis_value::<u32>);
            let by = by.and_then(Result::ok);
            let by = by.ok_or(StoreError::unexpected("WAIT"))?;
            if by < self.wanted {
                let wanted = self.wanted;
                return Err(StoreError(Cause::Unacknowledged { by, wanted }));
            }
        }
        Ok(answers)
    }

    async fn send(&self, connection: &mut MultiplexedConnection) -> RedisResult<Vec<Value>> {
        let answers: Vec<RedisResult<Value>> = self.commands.query_async(connection).await?;
        answers.into_iter().collect()
    }
}

/// The command that runs a script.
pub(in crate::store) fn evaluation(script: &Script, keys: &[String], args: &[String]) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(script.get_hash());
    command.arg(keys.len()).arg(keys).arg(args);
    command
}

/// What the only command has answered.
pub(in crate::store) fn read<T: FromRedisValue>(answers: Vec<Value>) -> Result<T, StoreError> {
    let answer = answers.into_iter().next().unwrap_or(Value::Nil);
    Ok(redis::from_redis_value(answer).map_err(RedisError::from)?)
}
