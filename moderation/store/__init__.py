"""The truth: tables, migrations, job states, leases, outbox. SQLite (WAL) or PostgreSQL."""
