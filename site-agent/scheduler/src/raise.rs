//! Configurations of schemas before 3.0: raised, or refused with the reason.
//!
//! Between 2.10 and 3.0 names got other names and places. To read an old name as if nothing had been said, or as something else, would
//! schedule what nobody configured. `tierce_cib::schema::upgrade` raises what means the same by 3.0; what does not is refused by line.

use tierce_cib::schema::{self, Schema, SchemaError};
use tierce_cib::xml::Document;

use crate::Error;

/// Raises a document of an old schema. One whose check is turned off is taken as it is.
pub(crate) fn raise(doc: &mut Document) -> Result<(), Error> {
    let name = match Schema::declared(doc) {
        Err(SchemaError::TooOld(name)) => name,
        Err(unknown @ SchemaError::Unknown(_)) => {
            return Err(Error::Invalid {
                what: unknown.to_string(),
                place: "validate-with".into(),
            });
        }
        Ok(_) | Err(_) => return Ok(()),
    };
    match schema::upgrade(doc) {
        Ok(raised) => {
            *doc = raised;
            Ok(())
        }
        Err(problems) => {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            let more = problems.len().saturating_sub(1);
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            Err(Error::TooOld { schema: name, problem: format!("{first}{more}") })
        }
    }
}
