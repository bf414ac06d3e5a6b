-- A queue as the first version of the schema had it, with one message that waits.
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = 1297367377;
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    reverse_path TEXT NOT NULL,
    body TEXT NOT NULL,
    smtputf8 INTEGER NOT NULL,
    require_tls INTEGER NOT NULL,
    ret TEXT,
    envid TEXT,
    size INTEGER NOT NULL,
    content_file INTEGER,
    received_at INTEGER NOT NULL,
    origin TEXT NOT NULL,
    open INTEGER NOT NULL,
    delay_notified_at INTEGER,
    finished_at INTEGER
);
CREATE INDEX message_finished ON message (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX message_file ON message (content_file) WHERE content_file IS NOT NULL;
CREATE TABLE content (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE destination (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    waiting INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER,
    last_reply TEXT
);
CREATE INDEX destination_due ON destination (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX destination_idle ON destination (not_before) WHERE waiting = 0 AND held = 0;
CREATE TABLE recipient (
    message INTEGER NOT NULL,
    n INTEGER NOT NULL,
    destination INTEGER NOT NULL,
    mailbox TEXT NOT NULL,
    notify TEXT,
    orcpt TEXT,
    state INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL,
    last_at INTEGER,
    status TEXT,
    reply TEXT,
    remote TEXT,
    PRIMARY KEY (message, n)
) WITHOUT ROWID;
CREATE INDEX recipient_due ON recipient (destination, next_at) WHERE state = 0;
CREATE INDEX recipient_age ON recipient (destination, message) WHERE state = 0;
CREATE TABLE attempt (
    message INTEGER NOT NULL,
    n INTEGER NOT NULL,
    at INTEGER NOT NULL,
    results TEXT NOT NULL,
    decision TEXT,
    PRIMARY KEY (message, n)
) WITHOUT ROWID;
CREATE TABLE totals (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    last_id INTEGER NOT NULL DEFAULT 0,
    messages INTEGER NOT NULL DEFAULT 0,
    content_bytes INTEGER NOT NULL DEFAULT 0,
    waiting INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0,
    damaged INTEGER NOT NULL DEFAULT 0,
    finished INTEGER NOT NULL DEFAULT 0,
    accepted_total INTEGER NOT NULL DEFAULT 0,
    delivered_total INTEGER NOT NULL DEFAULT 0,
    failed_total INTEGER NOT NULL DEFAULT 0
);
INSERT INTO totals (one) VALUES (1);

INSERT INTO message VALUES (1794000000000000, '<sender@example.org>', '8BITMIME', 0, 0, NULL, NULL, 32, NULL, 1794000000,
    '{"kind":"smtp"}', 1, NULL, NULL);
INSERT INTO content VALUES (1794000000000000, CAST('Subject: old' || char(13, 10, 13, 10) || 'from version 1' || char(13, 10) AS BLOB));
INSERT INTO destination (id, name, waiting, due_at) VALUES (1, 'one.example', 1, 1794000000);
INSERT INTO recipient VALUES (1794000000000000, 0, 1, 'a@one.example', NULL, NULL, 0, 0, 1794000000, NULL, NULL, NULL, NULL);
UPDATE totals SET last_id = 1794000000000000, messages = 1, content_bytes = 32, waiting = 1, accepted_total = 1;
PRAGMA user_version = 1;
