//! Reads and writes the rows of API tokens.
//!
//! A token is stored only as its hash. Must not decide what a token may do: the domain does.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    Select, Statement,
};

use super::application::set;
use super::database::page::{Page, PageRequest, fetch};
use super::database::rows::{Column as Bound, Rows, statement};
use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::api_token::{ActiveModel, Column, Entity, Model};
use super::entity::json_text::JsonText;
use super::retention::delete_found;
use crate::domain::capability::Capability;
use crate::domain::id::Prefix;
use crate::domain::identifier::check_identifier;
use crate::domain::role::Role;
use crate::domain::timestamp::Timestamp;
use crate::domain::token::{limited, of_poller};
use crate::error::{Error, Result};

/// A token that is to be stored.
#[derive(Clone, Debug)]
pub struct NewToken<'a> {
    pub org_id: &'a str,
    /// The application to which the token is limited; `None` means it acts for the whole organization.
    pub app_id: Option<&'a str>,
    /// The poller to which the token is limited; `None` means no such limit.
    pub poller_id: Option<&'a str>,
    /// The token's hash, by `domain::token::hash`.
    pub hash: &'a str,
    /// The name by which people know the token; `None` means it has none.
    pub name: Option<&'a str>,
    /// The role of an organization's token; the default for an application's.
    pub role: Role,
    /// When the token expires; `None` means never.
    pub expires_at: Option<Timestamp>,
    /// Who makes the token: the id of a token, `admin`, `cli` or `system`.
    pub created_by: &'a str,
    /// The session for which the token is made.
    pub session_id: Option<String>,
    /// The feature flags of an application's token: it sees the event types with one of them, and those without a flag.
    pub feature_flags: Vec<String>,
    /// The capabilities of an application's token; `None` means all that such a token can have.
    pub capabilities: Option<Vec<Capability>>,
}

/// Changes of a token; `None` keeps the value.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub name: Option<String>,
    pub role: Option<Role>,
    /// `Some(None)` means that the token never expires.
    pub expires_at: Option<Option<Timestamp>>,
}

/// Returns the form in which the hash of an organization's token is stored.
fn stored(hash: &str, role: Role) -> String {
    match role {
        Role::Admin => hash.to_owned(),
        _ => limited(hash),
    }
}

/// Selects the tokens of a poller that are not revoked, expired ones too.
fn readers(app_id: &str, poller_id: &str) -> Select<Entity> {
    Entity::find()
        .filter(Column::PollerId.eq(poller_id))
        .filter(Column::AppId.eq(app_id))
        .filter(Column::RevokedAt.is_null())
}

/// Selects the tokens of an organization itself that are not revoked, expired ones too.
fn own(org_id: &str) -> Select<Entity> {
    Entity::find()
        .filter(Column::OrgId.eq(org_id))
        .filter(Column::AppId.is_null())
        .filter(Column::RevokedAt.is_null())
}

/// Returns a token of the organization itself that is not revoked.
///
/// # Errors
/// `NotFound`.
pub async fn get(source: &impl Source, org_id: &str, id: &str) -> Result<Model> {
    let not_found = || Error::not_found("token");
    check_identifier(id).map_err(|_| not_found())?;
    let found = own(org_id).filter(Column::Id.eq(id)).one(source.source());
    found.await?.ok_or_else(not_found)
}

/// Returns a token of any organization or application, revoked and expired ones too; `None` if there is none.
pub async fn find(source: &impl Source, id: &str) -> Result<Option<Model>> {
    Ok(Entity::find_by_id(id).one(source.source()).await?)
}

/// Returns a page of the tokens of the organization itself that are not revoked, in the order of their ids.
pub async fn list_own(source: &impl Source, org_id: &str, page: &PageRequest) -> Result<Page<Model>> {
    fetch(source, own(org_id), Column::Id, page).await
}

/// Returns a page of the tokens of a poller that are not revoked, in the order of their ids.
pub async fn list_of_poller(
    source: &impl Source,
    app_id: &str,
    poller_id: &str,
    page: &PageRequest,
) -> Result<Page<Model>> {
    fetch(source, readers(app_id, poller_id), Column::Id, page).await
}

/// Returns a token of a poller that is not revoked.
///
/// # Errors
/// `NotFound`.
pub async fn get_of_poller(source: &impl Source, app_id: &str, poller_id: &str, id: &str) -> Result<Model> {
    let not_found = || Error::not_found("token");
    check_identifier(id).map_err(|_| not_found())?;
    let found = readers(app_id, poller_id)
        .filter(Column::Id.eq(id))
        .one(source.source());
    found.await?.ok_or_else(not_found)
}

/// Revokes all tokens of a poller.
pub async fn revoke_of_poller(tx: &Tx, poller_id: &str) -> Result<()> {
    Entity::update_many()
        .col_expr(Column::RevokedAt, Expr::value(tx.now))
        .filter(Column::PollerId.eq(poller_id))
        .filter(Column::RevokedAt.is_null())
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// Returns whether the organization has a valid token of an admin besides the token `id`. Those with which somebody has
/// signed in to the console do not count: they end within a day.
pub async fn has_other_admin(tx: &Tx, org_id: &str, id: &str) -> Result<bool> {
    let valid = Condition::any()
        .add(Column::ExpiresAt.is_null())
        .add(Column::ExpiresAt.gt(tx.now));
    let other = own(org_id)
        .filter(Column::Role.eq(Role::Admin))
        .filter(Column::Id.ne(id))
        .filter(Column::SessionId.is_null())
        .filter(valid);
    Ok(other.one(tx.conn()).await?.is_some())
}

/// Changes a token of the organization itself, which the caller has found as `known`. Returns it as it is then.
pub async fn update(tx: &Tx, known: Model, change: Change) -> Result<Model> {
    let hash = known.hash.strip_prefix(&limited("")).unwrap_or(&known.hash);
    let hash = change.role.map(|role| stored(hash, role));
    let row = ActiveModel {
        hash: set(hash.clone()),
        name: set(change.name.clone().map(Some)),
        role: set(change.role),
        expires_at: set(change.expires_at),
        ..Default::default()
    };
    if row.hash.is_set() || row.name.is_set() || row.expires_at.is_set() {
        let update = Entity::update_many().set(row).filter(Column::Id.eq(&known.id));
        update.filter(Column::OrgId.eq(&known.org_id)).exec(tx.conn()).await?;
    }
    Ok(Model {
        hash: hash.unwrap_or(known.hash),
        name: change.name.or(known.name),
        role: change.role.unwrap_or(known.role),
        expires_at: change.expires_at.unwrap_or(known.expires_at),
        ..known
    })
}

/// Returns the token with this hash, by `domain::token::hash`, revoked and expired ones too; `None` if there is none.
pub async fn find_by_hash(source: &impl Source, hash: &str) -> Result<Option<Model>> {
    let stored = [hash.to_owned(), limited(hash), of_poller(hash)];
    let found = Entity::find().filter(Column::Hash.is_in(stored)).one(source.source());
    Ok(found.await?)
}

/// Returns up to `most` tokens of the organization with ids above `after`, oldest first.
pub async fn list(source: &impl Source, org_id: &str, after: &str, most: u64) -> Result<Vec<Model>> {
    let found = Entity::find()
        .filter(Column::OrgId.eq(org_id))
        .filter(Column::Id.gt(after))
        .order_by_asc(Column::Id)
        .limit(most)
        .all(source.source());
    Ok(found.await?)
}

/// Inserts a token with a new id.
pub async fn insert(tx: &Tx, new: NewToken<'_>) -> Result<Model> {
    let model = Model {
        id: tx.store().clock().new_id_at(Prefix::Token, tx.now),
        org_id: new.org_id.to_owned(),
        app_id: new.app_id.map(str::to_owned),
        hash: match new.poller_id {
            Some(_) => of_poller(new.hash),
            None => stored(new.hash, new.role),
        },
        created_at: tx.now,
        expires_at: new.expires_at,
        revoked_at: None,
        feature_flags: (!new.feature_flags.is_empty()).then_some(JsonText(new.feature_flags)),
        capabilities: new.capabilities.map(JsonText),
        name: new.name.map(str::to_owned),
        role: new.role,
        last_used_at: None,
        created_by: Some(new.created_by.to_owned()),
        session_id: new.session_id,
        poller_id: new.poller_id.map(str::to_owned),
    };
    let row = model.clone().into_active_model();
    Entity::insert(row).exec_without_returning(tx.conn()).await?;
    Ok(model)
}

/// Lets the tokens of an application expire at `at`, except those that expire earlier. If there are `sessions`, only
/// the tokens of these.
pub async fn expire_all(tx: &Tx, org_id: &str, app_id: &str, sessions: &[String], at: Timestamp) -> Result<()> {
    let later = Condition::any()
        .add(Column::ExpiresAt.is_null())
        .add(Column::ExpiresAt.gt(at));
    let mut update = Entity::update_many()
        .col_expr(Column::ExpiresAt, Expr::value(at))
        .filter(Column::OrgId.eq(org_id))
        .filter(Column::AppId.eq(app_id))
        .filter(later);
    if !sessions.is_empty() {
        update = update.filter(Column::SessionId.is_in(sessions));
    }
    update.exec(tx.conn()).await?;
    Ok(())
}

/// Records the minutes in which tokens, of any organization, were last used. Leaves out a token that another
/// transaction has locked: it is being changed, or another process records its use.
pub async fn record_uses(tx: &Tx, uses: &[(String, Timestamp)]) -> Result<()> {
    let rows = Rows::new([
        ("id", Bound::Text(uses.iter().map(|(id, _)| id.as_str()).collect())),
        ("used_at", Bound::Int(uses.iter().map(|(_, minute)| minute.0).collect())),
    ]);
    let lock = tx.backend().skip_locked();
    let sql = format!(
        "update api_token set last_used_at = t.used_at from {{t}} where api_token.id = t.id \
         and coalesce(api_token.last_used_at, 0) < t.used_at \
         and api_token.id in (select id from api_token where id in (select id from {{t}}) order by id {lock})"
    );
    let update = statement(tx.backend(), &sql, &[("t", &rows)], []);
    tx.conn().execute_raw(update).await?;
    Ok(())
}

/// Revokes a token. Returns false if there is none with this id or it was revoked before.
pub async fn revoke(tx: &Tx, id: &str) -> Result<bool> {
    let revoked = Entity::update_many()
        .col_expr(Column::RevokedAt, Expr::value(tx.now))
        .filter(Column::Id.eq(id))
        .filter(Column::RevokedAt.is_null())
        .exec(tx.conn())
        .await?;
    Ok(revoked.rows_affected > 0)
}

/// Removes up to `most` tokens of applications, and as many of sessions in the console, that had expired at `before`.
/// Returns how many of the kind with more. Other tokens of organizations stay.
pub async fn prune(tx: &Tx, before: Timestamp, most: u64) -> Result<u64> {
    let lock = tx.backend().skip_locked();
    let mut pruned = 0;
    for kind in ["app_id is not null", "app_id is null and session_id is not null"] {
        let sql =
            format!("select id from api_token where {kind} and expires_at <= $1 order by expires_at limit $2 {lock}");
        let values = [before.0.into(), (most as i64).into()];
        let ended = Statement::from_sql_and_values(tx.backend().orm(), sql, values);
        pruned = pruned.max(delete_found(tx, "api_token", &["id"], ended).await?);
    }
    Ok(pruned)
}
