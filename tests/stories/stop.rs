//! The proxy stops without harm to what is under way.
