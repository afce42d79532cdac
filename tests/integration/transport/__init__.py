"""The stream transport as kombu sees it."""
