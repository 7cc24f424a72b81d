CREATE TABLE auth.users (
  id            uuid PRIMARY KEY,
  username      text NOT NULL CHECK (username ~ '^[A-Za-z0-9_-]{3,20}$'),
  email         text NOT NULL,
  password_hash text NOT NULL,
  pepper        smallint NOT NULL,  -- the number of the pepper's key in the hash
  roles         text[] NOT NULL CHECK (roles <@ ARRAY['player', 'moderator', 'admin']),
  name_ver      bigint NOT NULL DEFAULT 1,
  ver           bigint NOT NULL DEFAULT 1,  -- access tokens with a lower one are not to be trusted
  banned_until  timestamptz,  -- null: not banned; infinity: for good
  ban_version   bigint NOT NULL DEFAULT 0,
  created_at    timestamptz NOT NULL,
  last_login_at timestamptz
);

-- This index decides who gets a name that several request at once.
CREATE UNIQUE INDEX users_by_name ON auth.users (lower(username));

-- One row per family of refresh tokens. Tokens stand here as SHA-256 only.
CREATE TABLE auth.sessions (
  sid           uuid PRIMARY KEY,
  user_id       uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
  generation    bigint NOT NULL DEFAULT 0,
  live_sha256   bytea NOT NULL,
  parent_sha256 bytea,     -- of the token that the live one replaced
  refresh_key   smallint NOT NULL DEFAULT 0,  -- of the key that made the live one out of its parent
  rotated_at    timestamptz,
  created_at    timestamptz NOT NULL,
  last_seen_at  timestamptz NOT NULL,
  expires_at    timestamptz NOT NULL,
  ended_at      timestamptz,  -- an old token was shown: none of the family counts any more
  address       text NOT NULL,
  user_agent    text NOT NULL
);

CREATE INDEX sessions_by_user ON auth.sessions (user_id);

-- Game servers, which award by their own word. A secret stands here as SHA-256 only: it is 32
-- random bytes, so there is nothing to guess that a slow hash would protect.
CREATE TABLE auth.clients (
  id            uuid PRIMARY KEY,
  name          text NOT NULL CHECK (name <> ''),
  secret_sha256 bytea NOT NULL CHECK (octet_length(secret_sha256) = 32),
  action_types  text[] NOT NULL CHECK (cardinality(action_types) BETWEEN 1 AND 32),
  disabled      boolean NOT NULL DEFAULT false,
  created_at    timestamptz NOT NULL
);

GRANT USAGE ON SCHEMA auth TO auth;
GRANT SELECT ON auth.migrations TO auth;
GRANT SELECT, INSERT, UPDATE ON auth.users TO auth;
GRANT SELECT, INSERT, UPDATE, DELETE ON auth.sessions TO auth;
GRANT SELECT, INSERT, UPDATE ON auth.clients TO auth;
