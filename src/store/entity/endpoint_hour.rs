//! The table of the sums of attempts, by endpoint and hour. A count of zero is stored as null.
//!
//! Must not contain queries or rules.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "endpoint_hour")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub app_id: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub endpoint_id: String,
    /// The beginning of the hour, or of the day (UTC), in microseconds since 1970.
    #[sea_orm(primary_key, auto_increment = false)]
    pub hour: i64,
    /// The start of a process that has summed up the attempts, a random number above 0; 0 for the sum of several, and -1
    /// for a day.
    #[sea_orm(primary_key, auto_increment = false)]
    pub source: i64,
    pub delivered: Option<i32>,
    pub failed: Option<i32>,
    pub status_3xx: Option<i32>,
    pub status_4xx: Option<i32>,
    pub status_5xx: Option<i32>,
    pub ms_5: Option<i32>,
    pub ms_7: Option<i32>,
    pub ms_10: Option<i32>,
    pub ms_15: Option<i32>,
    pub ms_20: Option<i32>,
    pub ms_30: Option<i32>,
    pub ms_50: Option<i32>,
    pub ms_70: Option<i32>,
    pub ms_100: Option<i32>,
    pub ms_150: Option<i32>,
    pub ms_200: Option<i32>,
    pub ms_300: Option<i32>,
    pub ms_500: Option<i32>,
    pub ms_700: Option<i32>,
    pub ms_1000: Option<i32>,
    pub ms_1500: Option<i32>,
    pub ms_2000: Option<i32>,
    pub ms_3000: Option<i32>,
    pub ms_5000: Option<i32>,
    pub ms_7000: Option<i32>,
    pub ms_10000: Option<i32>,
    pub ms_15000: Option<i32>,
    pub ms_20000: Option<i32>,
    pub ms_30000: Option<i32>,
    pub ms_more: Option<i32>,
    /// When the last attempt of the period began that delivered its message, in microseconds since 1970.
    pub last_success: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
