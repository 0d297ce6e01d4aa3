//! Reads and writes the rows of API tokens.
//!
//! A token is stored only as its hash. Must not decide what a token may do, or whether it has expired: the domain and
//! the API do.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Statement,
};

use super::database::rows::{Column as Bound, Rows, statement};
use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::api_token::{Column, Entity, Model};
use super::entity::json_text::JsonText;
use super::retention::delete_found;
use crate::domain::capability::Capability;
use crate::domain::id::Prefix;
use crate::domain::role::Role;
use crate::domain::timestamp::Timestamp;
use crate::domain::token::limited;
use crate::error::Result;

/// A token that is to be stored.
#[derive(Clone, Debug)]
pub struct NewToken<'a> {
    pub org_id: &'a str,
    /// The application to which the token is limited; `None` means it acts for the whole organization.
    pub app_id: Option<&'a str>,
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
    /// The feature flags of an application's token: it sees the event types with one of them, and those without a flag.
    pub feature_flags: Vec<String>,
    /// The capabilities of an application's token; `None` means all that such a token can have.
    pub capabilities: Option<Vec<Capability>>,
}

/// Returns the token with this hash, by `domain::token::hash`, revoked and expired ones too; `None` if there is none.
pub async fn find_by_hash(source: &impl Source, hash: &str) -> Result<Option<Model>> {
    let stored = [hash.to_owned(), limited(hash)];
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
        hash: match new.role {
            Role::Admin => new.hash.to_owned(),
            _ => limited(new.hash),
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
    };
    let row = model.clone().into_active_model();
    Entity::insert(row).exec_without_returning(tx.conn()).await?;
    Ok(model)
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

/// Removes up to `most` tokens of applications that had expired at `before`. Returns how many. Tokens of organizations
/// stay.
pub async fn prune(tx: &Tx, before: Timestamp, most: u64) -> Result<u64> {
    let lock = tx.backend().skip_locked();
    let sql = format!(
        "select id from api_token where app_id is not null and expires_at <= $1 order by expires_at limit $2 {lock}"
    );
    let values = [before.0.into(), (most as i64).into()];
    let ended = Statement::from_sql_and_values(tx.backend().orm(), sql, values);
    delete_found(tx, "api_token", &["id"], ended).await
}
