/// Makes a method `with_…` for each field that is named, to be chained.
macro_rules! setters {
    ($of:ident { $($(#[$attribute:meta])* $setter:ident: $field:ident, $of_type:ty;)+ }) => {
        #[doc = concat!("Setters, to be chained: `", stringify!($of), "::default().with_…(…)`.")]
        impl $of {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                $(#[$attribute])*
                #[must_use]
                pub fn $setter(mut self, $field: $of_type) -> Self {
                    self.$field = $field;
                    self
                }
            )+
        }
    };
}

pub(crate) use setters;
