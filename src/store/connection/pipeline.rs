//! Commands that are sent together to one server, with the script and the acknowledgements that they need.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    Arg, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, Script, ServerErrorKind, Value,
};
use tracing::{Span, field, info_span};

use super::{Cause, StoreError, load_scripts};

/// Time to wait for replicas, a part of the operation's deadline.
const REPLICA_WAIT: Duration = Duration::from_millis(200);

/// Commands for one server.
pub(in crate::store) struct Pipeline {
    commands: redis::Pipeline,
    /// Script to load if the server lacks it.
    script: Option<Script>,
    /// Number of replicas that must have the writes.
    wanted: u32,
}

impl Pipeline {
    /// Creates a call of these commands, some of which may run `script`.
    pub(super) fn new(commands: impl IntoIterator<Item = Cmd>, script: Option<&Script>) -> Self {
        let mut pipeline = redis::pipe();
        // One result for each command: a common error would not show where a key has moved.
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

    /// Creates a call of one script.
    pub(in crate::store) fn script(script: &Script, keys: &[String], args: &[String]) -> Self {
        Self::new([evalsha(script, keys, args)], Some(script))
    }

    /// Adds a wait for `wanted` replicas. A `WAIT` inside a script or a transaction would not wait.
    pub(in crate::store) fn wait_for_replicas(mut self, wanted: u32) -> Self {
        if wanted > 0 {
            let millis = u64::try_from(REPLICA_WAIT.as_millis()).unwrap_or(u64::MAX);
            self.commands.cmd("WAIT").arg(wanted).arg(millis);
        }
        self.wanted = wanted;
        self
    }

    /// Creates the span of the call, by OpenTelemetry's conventions for databases. Keys and values are left out,
    /// because they name users. Only a request that is traced gets one: in the background each span would be a trace of
    /// its own.
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
                // A command followed by WAIT, or several of the same kind.
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

    /// Sends the commands. If the server lacks the script, loads it and sends them again. Returns a reply for each
    /// command.
    pub(in crate::store) async fn execute(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Vec<Value>, StoreError> {
        let mut answers = match (self.send(connection).await, &self.script) {
            (Err(error), Some(script))
                if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) =>
            {
                load_scripts(connection, &[script]).await?;
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

/// Returns the command that runs a script.
pub(in crate::store) fn evalsha(script: &Script, keys: &[String], args: &[String]) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(script.get_hash());
    command.arg(keys.len()).arg(keys).arg(args);
    command
}

/// Parses the reply of the only command.
pub(in crate::store) fn parse_reply<T: FromRedisValue>(
    answers: Vec<Value>,
) -> Result<T, StoreError> {
    let answer = answers.into_iter().next().unwrap_or(Value::Nil);
    Ok(redis::from_redis_value(answer).map_err(RedisError::from)?)
}
