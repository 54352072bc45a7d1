//! Boolean conditions over any type of test: of persons, of events, of groups of events.

/// A boolean expression with tests of type `T` as its leaves.
#[derive(Clone, Debug)]
pub(crate) enum Condition<T> {
    Test(T),
    Not(Box<Condition<T>>),
    /// Without parts: true.
    All(Vec<Condition<T>>),
    /// Without parts: false.
    Any(Vec<Condition<T>>),
}

impl<T> Condition<T> {
    pub fn negated(self) -> Condition<T> {
        Condition::Not(Box::new(self))
    }

    pub fn negated_if(self, negated: bool) -> Condition<T> {
        if negated { self.negated() } else { self }
    }

    /// The value of the condition, where `answer` gives the value of each test.
    pub fn holds(&self, answer: &impl Fn(&T) -> bool) -> bool {
        match self {
            Condition::Test(test) => answer(test),
            Condition::Not(inner) => !inner.holds(answer),
            Condition::All(parts) => parts.iter().all(|part| part.holds(answer)),
            Condition::Any(parts) => parts.iter().any(|part| part.holds(answer)),
        }
    }

    /// Replaces each test by the condition that `make` returns for it. Stops at the first error.
    pub fn try_map<'a, U, E>(
        &'a self,
        make: &mut impl FnMut(&'a T) -> Result<Condition<U>, E>,
    ) -> Result<Condition<U>, E> {
        let mut all = |parts: &'a [Condition<T>]| {
            let parts = parts.iter().map(|part| part.try_map(make));
            parts.collect::<Result<Vec<_>, E>>()
        };
        Ok(match self {
            Condition::All(parts) => Condition::All(all(parts)?),
            Condition::Any(parts) => Condition::Any(all(parts)?),
            Condition::Not(inner) => inner.try_map(make)?.negated(),
            Condition::Test(test) => make(test)?,
        })
    }

    /// All tests, in document order.
    pub fn tests(&self) -> Vec<&T> {
        match self {
            Condition::Test(test) => vec![test],
            Condition::Not(inner) => inner.tests(),
            Condition::All(parts) | Condition::Any(parts) => {
                parts.iter().flat_map(Condition::tests).collect()
            }
        }
    }
}
