//! Users: one hash each, for ever.

use std::sync::LazyLock;

use redis::Script;

use super::connection::{DEADLINE, Redis, StoreError, evaluation, within};
use super::entries::Entry;
use crate::domain::{AttemptedName, PasswordHash, Role, Timestamp, UserId, Username};

/// A user as stored.
#[derive(Debug, Clone)]
pub struct User {
    /// Identity, never used again for another account.
    pub id: UserId,
    /// Name.
    pub username: Username,
    /// Hash of the password.
    pub password: PasswordHash,
    /// Roles.
    pub roles: Vec<Role>,
    /// Whether an administrator has disabled the account.
    pub disabled: bool,
    /// Tokens of a lower version are refused.
    pub version: u64,
    /// Sessions opened under a lower version are void; a verb that follows a look at the user names what it saw.
    pub sessions_from: u64,
    /// When the account was created.
    pub created: Timestamp,
}

/// What became of a registration.
#[derive(Debug)]
pub enum Registered {
    /// The account exists now, created at that time. The entries were left in the name's outbox by an earlier account and
    /// must be appended to the feed before anyone is answered.
    Created(Timestamp, Vec<Entry>),
    /// Somebody has the name.
    NameTaken {
        /// The account was imported from the very same.
        by_the_same: bool,
    },
}

/// A user to be created.
#[derive(Debug)]
pub struct NewUser {
    /// Identity.
    pub id: UserId,
    /// Name.
    pub username: Username,
    /// Hash of the password.
    pub password: PasswordHash,
    /// Roles.
    pub roles: Vec<Role>,
    /// Whether nobody may log in.
    pub disabled: bool,
    /// Marks what the account is imported from, so that the same import can be run again.
    pub imported: Option<String>,
}

/// How far a walk over all users has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserCursor {
    shard: usize,
    cursor: u64,
}

/// Keys that one step of [`Redis::some_users`] looks at.
const SCANNED: usize = 500;

static REGISTER: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/register_user.lua")));
static REPLACE_PASSWORD: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/replace_password.lua")));

impl Redis {
    /// Creates a user, unless the name is taken. Of any number of attempts at the same instant one succeeds.
    ///
    /// # Errors
    /// Where the store cannot answer; the account may exist all the same.
    pub async fn register_user(&self, new: &NewUser) -> Result<Registered, StoreError> {
        let (keys, args) = self.registration(new);
        outcome(self.script(&REGISTER, &keys, &args).await?)
    }

    /// Creates users in one round trip, each as [`register_user`](Self::register_user) does.
    ///
    /// # Errors
    /// Where the store cannot answer; any of the accounts may exist all the same.
    pub async fn register_users(&self, new: &[NewUser]) -> Result<Vec<Registered>, StoreError> {
        let evaluations = new.iter().map(|new| self.registration(new));
        let evaluations: Vec<_> = evaluations.collect();
        let evaluations = evaluations.iter().map(|(keys, args)| {
            let evaluation = evaluation(&REGISTER, keys, args);
            (keys[0].as_str(), evaluation)
        });
        let answers = self.each(evaluations.collect(), Some(&REGISTER)).await?;
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

    /// The user of that name.
    ///
    /// # Errors
    /// Where the store cannot answer, or what it holds is not a user.
    pub async fn find_user(&self, name: &Username) -> Result<Option<User>, StoreError> {
        let key = self.keys().user(name);
        let fields: Fields = self.ask(&key, &fields_of(&key)).await?;
        match fields.first() {
            None | Some(None) => Ok(None),
            // A record that was tampered with is no user of ours, and no reason to fall over.
            Some(_) => user(fields).map(Some).ok_or_else(|| {
                StoreError::refused(format!("the record of user {name} is damaged"))
            }),
        }
    }

    /// Asks for a user of a name that nobody can have, which takes as long as for any other.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn find_nobody(&self, name: AttemptedName) -> Result<(), StoreError> {
        let key = self.keys().nobody(name);
        let _: Fields = self.ask(&key, &fields_of(&key)).await?;
        Ok(())
    }

    /// Some users, and where to go on; `None` is the end. Each step looks at so few keys that nobody waits for it. Whoever
    /// is registered or deleted meanwhile may be among them or not, and one may come twice.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn some_users(
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
        scan.arg("COUNT").arg(SCANNED);
        let scanned = within(DEADLINE, scan.query_async(&mut connection)).await;
        let (cursor, keys): (u64, Vec<String>) = scanned.inspect_err(|_| self.doubt())?;
        let questions = keys.iter().map(|key| (key.as_str(), fields_of(key)));
        let records = self.each(questions.collect(), None).await?.into_iter();
        let records: Result<Vec<Fields>, _> = records.map(redis::from_redis_value).collect();
        let records = records.map_err(|_| StoreError::unexpected("a user"))?;
        let next = UserCursor {
            shard: from.shard + usize::from(cursor == 0),
            cursor,
        };
        let next = (next.shard < primaries.len()).then_some(next);
        Ok((next, records.into_iter().filter_map(user).collect()))
    }

    /// Writes a new hash of the same password over the very one that was verified. `false` where the account or its
    /// password has changed meanwhile; nothing is written then.
    ///
    /// # Errors
    /// Where the store cannot answer.
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

/// What is read of a user, in the order of [`FIELDS`].
type Fields = Vec<Option<String>>;

const FIELDS: [&str; 8] = [
    "id",
    "username",
    "password",
    "roles",
    "disabled",
    "version",
    "sessions_from",
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
        sessions_from: from.parse().ok()?,
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

/// Roles are stored as one text, separated by commas.
pub(super) fn parse_roles(text: &str) -> Option<Vec<Role>> {
    text.split(',')
        .filter(|role| !role.is_empty())
        .map(|role| role.parse().ok())
        .collect()
}

/// Roles as they are stored: each once, in alphabetical order, so that the same roles are the same text.
pub(super) fn write_roles(roles: &[Role]) -> String {
    let mut words: Vec<_> = roles.iter().map(Role::as_str).collect();
    words.sort_unstable();
    words.dedup();
    words.join(",")
}
