//! Values of a JSON file by key, with errors that name the key.

use serde_json::Value;

use super::Fault;

/// A value and the path to it, such as `benchmarks[0].requests`.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    pub value: &'a Value,
    path: String,
}

impl<'a> Node<'a> {
    /// A whole value; `place` is where it stands, if the file has several: `line 3`, `[2]`.
    pub fn root(value: &'a Value, place: &str) -> Self {
        Self { value, path: place.to_owned() }
    }

    /// The member with this name; `None` if it is missing or null.
    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        let between = match self.path.as_str() {
            "" => "",
            line if line.starts_with("line ") && !line.contains(": ") => ": ",
            _ => ".",
        };
        Some(Node { value, path: format!("{}{between}{key}", self.path) })
    }

    /// The member below several names.
    pub fn below(&self, keys: &[&str]) -> Option<Node<'a>> {
        keys.iter().try_fold(self.clone(), |node, key| node.get(key))
    }

    /// The items of a list.
    pub fn items(&self) -> Result<Vec<Node<'a>>, Fault> {
        let items = self.value.as_array().ok_or_else(|| self.fault("not a list"))?;
        let node = |(at, value)| Node { value, path: format!("{}[{at}]", self.path) };
        Ok(items.iter().enumerate().map(node).collect())
    }

    /// The list with this name; `None` if there is none.
    pub fn list(&self, key: &str) -> Result<Option<Vec<Node<'a>>>, Fault> {
        self.get(key).map(|node| node.items()).transpose()
    }

    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key)?.value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// This value as a finite number.
    pub fn number(&self) -> Result<f64, Fault> {
        let number = self.value.as_f64().filter(|number| number.is_finite());
        number.ok_or_else(|| self.fault(format!("{} is not a number", shown(self.value))))
    }

    /// This value as a number above 0.
    pub fn positive(&self) -> Result<f64, Fault> {
        let number = self.number()?;
        if number > 0.0 { Ok(number) } else { Err(self.fault(format!("{number} is not above 0"))) }
    }

    /// This value as a number of tokens.
    pub fn count(&self) -> Result<u32, Fault> {
        let number = self.number()?;
        let whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
        if whole { Ok(number as u32) } else { Err(self.fault(format!("{number} is not a number of tokens"))) }
    }

    pub fn positive_at(&self, key: &str) -> Result<Option<f64>, Fault> {
        self.get(key).map(|node| node.positive()).transpose()
    }

    pub fn count_at(&self, key: &str) -> Result<Option<u32>, Fault> {
        self.get(key).map(|node| node.count()).transpose()
    }

    pub fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::at(if self.path.is_empty() { "top level" } else { &self.path }, message)
    }
}

/// A value for a message.
fn shown(value: &Value) -> String {
    let text: String = value.to_string().chars().take(40).collect();
    format!("`{text}`")
}
