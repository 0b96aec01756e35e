"""What the forecasters' page shows, computed from one published cycle; :mod:`serving.api.page` answers with it."""
