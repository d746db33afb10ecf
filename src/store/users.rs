//! Records of users, one hash for each, without expiry.

use std::sync::LazyLock;

use redis::Script;

use super::connection::{DEADLINE, Redis, StoreError, evalsha, within};
use super::entries::Entry;
use crate::domain::{AttemptedName, PasswordHash, Role, Timestamp, UserId, Username};

/// Stored user.
#[derive(Debug, Clone)]
pub struct User {
    /// Id, never used again for another account.
    pub id: UserId,
    /// Name.
    pub username: Username,
    /// Hash of the password.
    pub password: PasswordHash,
    /// Roles.
    pub roles: Vec<Role>,
    /// True if an administrator has disabled the account.
    pub disabled: bool,
    /// Tokens of a lower version are refused.
    pub version: u64,
    /// Sessions opened under a lower version are void. An operation that follows a read of the user passes the value
    /// that it read.
    pub min_session_version: u64,
    /// Time at which the account was created.
    pub created: Timestamp,
}

/// Outcome of a registration.
#[derive(Debug)]
pub enum Registered {
    /// The account was created at this time. An earlier account of the name left these entries in the outbox: they must
    /// be appended to the feed before the caller gets an answer.
    Created(Timestamp, Vec<Entry>),
    /// Another account has the name.
    NameTaken {
        /// True if that account was imported from the same record.
        by_the_same: bool,
    },
}

/// Request to create a user.
#[derive(Debug)]
pub struct NewUser {
    /// Id.
    pub id: UserId,
    /// Name.
    pub username: Username,
    /// Hash of the password.
    pub password: PasswordHash,
    /// Roles.
    pub roles: Vec<Role>,
    /// True to create the account disabled.
    pub disabled: bool,
    /// Digest of the imported record, so that the same import can run again.
    pub imported: Option<String>,
}

/// Position of a scan over all users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserCursor {
    shard: usize,
    cursor: u64,
}

/// Keys that one step of [`Redis::scan_users`] examines.
const SCAN_COUNT: usize = 500;

static REGISTER: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/register_user.lua")));
static REPLACE_PASSWORD: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/replace_password.lua")));

impl Redis {
    /// Creates a user, unless the name is taken. Of any number of concurrent attempts one succeeds.
    ///
    /// # Errors
    /// If the store cannot answer. The account may exist nevertheless.
    pub async fn register_user(&self, new: &NewUser) -> Result<Registered, StoreError> {
        let (keys, args) = self.registration(new);
        outcome(self.script(&REGISTER, &keys, &args).await?)
    }

    /// Creates users in one round trip, each as [`register_user`](Self::register_user) does.
    ///
    /// # Errors
    /// If the store cannot answer. Any of the accounts may exist nevertheless.
    pub async fn register_users(&self, new: &[NewUser]) -> Result<Vec<Registered>, StoreError> {
        let evaluations = new.iter().map(|new| self.registration(new));
        let evaluations: Vec<_> = evaluations.collect();
        let evaluations = evaluations.iter().map(|(keys, args)| {
            let evaluation = evalsha(&REGISTER, keys, args);
            (keys[0].as_str(), evaluation)
        });
        let answers = self
            .run_by_slot(evaluations.collect(), Some(&REGISTER))
            .await?;
        answers.into_iter().map(outcome).collect()
    }

    fn registration(&self, new: &NewUser) -> ([String; 2], [String; 6]) {
        let name = &new.username;
        let args = [
            new.id.to_string(),
            name.to_string(),
            new.password.to_string(),
            write_roles(&new.roles),
            u8::from(new.disabled).to_string(),
            new.imported.clone().unwrap_or_default(),
        ];
        ([self.keys().user(name), self.keys().outbox(name)], args)
    }

    /// Returns the user of that name.
    ///
    /// # Errors
    /// If the store cannot answer, or the record is not that of a user.
    pub async fn find_user(&self, name: &Username) -> Result<Option<User>, StoreError> {
        let key = self.keys().user(name);
        let fields: Fields = self.ask(&key, &fields_of(&key)).await?;
        match fields.first() {
            None | Some(None) => Ok(None),
            // A damaged record is not a user, and no reason to panic.
            Some(_) => user(fields).map(Some).ok_or_else(|| {
                StoreError::refused(format!("the record of user {name} is damaged"))
            }),
        }
    }

    /// Looks up a name that no user can have, which takes as long as any other lookup.
    ///
    /// # Errors
    /// If the store cannot answer.
    pub async fn dummy_lookup(&self, name: AttemptedName) -> Result<(), StoreError> {
        let key = self.keys().no_user(name);
        let _: Fields = self.ask(&key, &fields_of(&key)).await?;
        Ok(())
    }

    /// Returns some users and the cursor of the next step; `None` is the end. Each step examines few keys, so that no
    /// other client waits for it. A user who is registered or deleted meanwhile may be among them or not, and a user
    /// may come twice.
    ///
    /// # Errors
    /// If the store cannot answer.
    pub async fn scan_users(
        &self,
        from: UserCursor,
    ) -> Result<(Option<UserCursor>, Vec<User>), StoreError> {
        let pattern = self.keys().users();
        let primaries = self.all_primaries().await?;
        let Some(primary) = primaries.get(from.shard) else {
            return Ok((None, Vec::new()));
        };
        let mut connection = primary.connect().await?;
        let mut scan = redis::cmd("SCAN");
        scan.arg(from.cursor).arg("MATCH").arg(&pattern);
        scan.arg("COUNT").arg(SCAN_COUNT);
        let scanned = within(DEADLINE, scan.query_async(&mut connection)).await;
        let (cursor, keys): (u64, Vec<String>) =
            scanned.inspect_err(|_| self.invalidate_topology())?;
        let questions = keys.iter().map(|key| (key.as_str(), fields_of(key)));
        let records = self
            .run_by_slot(questions.collect(), None)
            .await?
            .into_iter();
        let records: Result<Vec<Fields>, _> = records.map(redis::from_redis_value).collect();
        let records = records.map_err(|_| StoreError::unexpected("a user"))?;
        let next = UserCursor {
            shard: from.shard + usize::from(cursor == 0),
            cursor,
        };
        let next = (next.shard < primaries.len()).then_some(next);
        Ok((next, records.into_iter().filter_map(user).collect()))
    }

    /// Writes a new hash of the same password over the hash that was verified. Returns `false`, and writes nothing, if
    /// the account or its password has changed meanwhile.
    ///
    /// # Errors
    /// If the store cannot answer.
    pub async fn replace_password(
        &self,
        seen: &User,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let args = [
            seen.id.to_string(),
            seen.password.to_string(),
            new.to_string(),
        ];
        let written: u8 = self
            .script(
                &REPLACE_PASSWORD,
                &[self.keys().user(&seen.username)],
                &args,
            )
            .await?;
        Ok(written == 1)
    }
}

/// Fields read of a user, in the order of [`FIELDS`].
type Fields = Vec<Option<String>>;

const FIELDS: [&str; 8] = [
    "id",
    "username",
    "password",
    "roles",
    "disabled",
    "version",
    "min_session_version",
    "created",
];

fn fields_of(key: &str) -> redis::Cmd {
    redis::cmd("HMGET").arg(key).arg(&FIELDS).clone()
}

fn user(fields: Fields) -> Option<User> {
    let fields: Option<Vec<String>> = fields.into_iter().collect();
    let [
        id,
        username,
        password,
        roles,
        disabled,
        version,
        from,
        created,
    ] = <[String; 8]>::try_from(fields?).ok()?;
    Some(User {
        id: id.parse().ok()?,
        username: username.parse().ok()?,
        password: password.parse().ok()?,
        roles: parse_roles(&roles)?,
        disabled: disabled != "0",
        version: version.parse().ok()?,
        min_session_version: from.parse().ok()?,
        created: Timestamp::from_millis(created.parse().ok()?),
    })
}

fn outcome(answer: redis::Value) -> Result<Registered, StoreError> {
    let unexpected = |_| StoreError::unexpected("register_user");
    let redis::Value::Array(parts) = &answer else {
        return Err(StoreError::unexpected("register_user"));
    };
    if parts.len() == 2 {
        let (_, same): (u8, u8) = redis::from_redis_value(answer).map_err(unexpected)?;
        return Ok(Registered::NameTaken {
            by_the_same: same == 1,
        });
    }
    let (_, created, outbox): (u8, u64, Vec<String>) =
        redis::from_redis_value(answer).map_err(unexpected)?;
    Ok(Registered::Created(
        Timestamp::from_millis(created),
        Entry::parse_all(&outbox)?,
    ))
}

/// Parses the stored roles: one text, separated by commas.
pub(super) fn parse_roles(text: &str) -> Option<Vec<Role>> {
    text.split(',')
        .filter(|role| !role.is_empty())
        .map(|role| role.parse().ok())
        .collect()
}

/// Formats roles as they are stored: each once, in alphabetical order, so that equal sets of roles are equal texts.
pub(super) fn write_roles(roles: &[Role]) -> String {
    let mut words: Vec<_> = roles.iter().map(Role::as_str).collect();
    words.sort_unstable();
    words.dedup();
    words.join(",")
}
