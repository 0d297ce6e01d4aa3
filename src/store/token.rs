//! API tokens: rows, by their hash. Called by service, api (the lookup of a request's token) and cli.

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Statement};

use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::api_token::{Column, Entity, Model};
use super::entity::json_text::JsonText;
use super::retention::delete_found;
use crate::domain::capability::Capability;
use crate::domain::id::Prefix;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// What a new token may do, and until when.
#[derive(Clone, Debug)]
pub struct NewToken<'a> {
    pub org_id: &'a str,
    /// Set: for this application only.
    pub app_id: Option<&'a str>,
    /// What `domain::token::hash` makes of it.
    pub hash: &'a str,
    pub expires_at: Option<Timestamp>,
    /// Of an application's token: the event types that it sees, besides those without a flag.
    pub feature_flags: Vec<String>,
    /// Of an application's token: what it may do; none: everything that one may.
    pub capabilities: Option<Vec<Capability>>,
}

/// The token with this hash, be it revoked or expired.
pub async fn find_by_hash(source: &impl Source, hash: &str) -> Result<Option<Model>> {
    let found = Entity::find().filter(Column::Hash.eq(hash)).one(source.source());
    Ok(found.await?)
}

/// An organization's tokens after the one with the id `after`, oldest first, at most `most`.
pub async fn list(source: &impl Source, org_id: &str, after: &str, most: u64) -> Result<Vec<Model>> {
    let found = Entity::find()
        .filter(Column::OrgId.eq(org_id))
        .filter(Column::Id.gt(after))
        .order_by_asc(Column::Id)
        .limit(most)
        .all(source.source());
    Ok(found.await?)
}

pub async fn insert(tx: &Tx, new: NewToken<'_>) -> Result<Model> {
    let model = Model {
        id: tx.store().clock().new_id_at(Prefix::Token, tx.now),
        org_id: new.org_id.to_owned(),
        app_id: new.app_id.map(str::to_owned),
        hash: new.hash.to_owned(),
        created_at: tx.now,
        expires_at: new.expires_at,
        revoked_at: None,
        feature_flags: (!new.feature_flags.is_empty()).then_some(JsonText(new.feature_flags)),
        capabilities: new.capabilities.map(JsonText),
    };
    let row = model.clone().into_active_model();
    Entity::insert(row).exec_without_returning(tx.conn()).await?;
    Ok(model)
}

/// Revokes a token; answers whether there was one that still worked.
pub async fn revoke(tx: &Tx, id: &str) -> Result<bool> {
    let revoked = Entity::update_many()
        .col_expr(Column::RevokedAt, Expr::value(tx.now))
        .filter(Column::Id.eq(id))
        .filter(Column::RevokedAt.is_null())
        .exec(tx.conn())
        .await?;
    Ok(revoked.rows_affected > 0)
}

/// Removes up to `most` tokens of applications that ended before `before`. Answers how many.
pub async fn prune(tx: &Tx, before: Timestamp, most: u64) -> Result<u64> {
    let lock = tx.backend().skip_locked();
    let sql = format!(
        "select id from api_token where app_id is not null and expires_at <= $1 order by expires_at limit $2 {lock}"
    );
    let values = [before.0.into(), (most as i64).into()];
    let ended = Statement::from_sql_and_values(tx.backend().orm(), sql, values);
    delete_found(tx, "api_token", &["id"], ended).await
}
