//! Schemas that no macro makes.

use utoipa::openapi::schema::{Array, ArrayBuilder, ObjectBuilder};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// A list of these.
pub(crate) fn array_of<T: ToSchema>() -> ArrayBuilder {
    Array::builder().items(Ref::from_schema_name(T::name()))
}

/// Declares a schema that is another's `without` some fields, `with` some that must be there.
macro_rules! part {
    (
        $(#[$about:meta])*
        $name:ident of $whole:ty, without $without:tt, with [$($needed:literal),*], as $example:tt
    ) => {
        $(#[$about])*
        enum $name {}

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                crate::openapi::part_of::<$whole>(&$without)
                    $(.required($needed))*
                    .examples([serde_json::json!($example)])
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {
            fn schemas(
                needed: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>,
            ) {
                <$whole>::schemas(needed);
            }
        }
    };
}
pub(crate) use part;

/// An object that takes what `T` takes, but for some fields.
pub(crate) fn part_of<T: PartialSchema>(without: &[&str]) -> ObjectBuilder {
    let RefOr::T(Schema::Object(mut whole)) = T::schema() else {
        unreachable!("a struct is an object");
    };
    whole
        .properties
        .retain(|name, _| !without.contains(&name.as_str()));
    ObjectBuilder::from(whole).description(None::<String>)
}
