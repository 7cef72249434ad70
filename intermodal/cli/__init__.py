"""One file a verb. Heavy imports only inside the verb that needs them."""
