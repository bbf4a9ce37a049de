"""The SQL of each migration, in the order in which `memory/migrations.py` applies it.

The enumerations in the CHECKs are written out here, and not taken from memory.records, because
a migration must do tomorrow what it did today.
"""

TABLES = (
    """
    CREATE TABLE campaign (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        created_at REAL NOT NULL,
        version TEXT NOT NULL,
        config TEXT NOT NULL,
        dataset TEXT NOT NULL,
        dataset_hash TEXT NOT NULL,
        split_hash TEXT NOT NULL,
        environment TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('new', 'running', 'paused', 'stopped', 'done')),
        protocol TEXT NOT NULL
    ) STRICT
    """,
    "CREATE UNIQUE INDEX campaign_is_one ON campaign ((1))",
    """
    CREATE TABLE split (
        "case" TEXT PRIMARY KEY,
        patient TEXT NOT NULL,
        split TEXT NOT NULL CHECK (split IN ('search-train', 'search-val', 'locked-test')),
        foreground_mm3 REAL NOT NULL CHECK (foreground_mm3 >= 0),
        image_hash TEXT NOT NULL,
        label_hash TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE proposal (
        id TEXT PRIMARY KEY,
        title TEXT NOT NULL,
        motivation TEXT NOT NULL,
        modules TEXT NOT NULL,
        refutation TEXT NOT NULL,
        citations TEXT NOT NULL,
        planner TEXT NOT NULL,
        parent TEXT REFERENCES proposal (id)
    ) STRICT
    """,
    """
    CREATE TABLE branch (
        id TEXT PRIMARY KEY,
        proposal TEXT NOT NULL REFERENCES proposal (id),
        state TEXT NOT NULL CHECK (state IN ('open', 'cut')),
        opened_at REAL NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE trial (
        id TEXT PRIMARY KEY,
        parent TEXT REFERENCES trial (id),
        branch TEXT REFERENCES branch (id),
        proposal TEXT REFERENCES proposal (id),
        "commit" TEXT,
        kind TEXT NOT NULL CHECK (
            kind IN ('baseline', 'draft', 'improve', 'repair', 'ablate', 'confirm')
        ),
        rung INTEGER NOT NULL CHECK (rung >= 0),
        seed INTEGER NOT NULL,
        split TEXT NOT NULL CHECK (split IN ('search-train', 'search-val', 'locked-test')),
        status TEXT NOT NULL CHECK (
            status IN (
                'planned', 'running', 'ok', 'failed', 'timed_out', 'out_of_memory', 'diverged',
                'rejected', 'cancelled'
            )
        ),
        title TEXT NOT NULL,
        iterations INTEGER CHECK (iterations >= 0),
        failure_class TEXT,
        failure_excerpt TEXT,
        planned_at REAL,
        started_at REAL,
        ended_at REAL,
        seconds REAL CHECK (seconds >= 0),
        gpu_seconds REAL CHECK (gpu_seconds >= 0),
        peak_memory_mib REAL CHECK (peak_memory_mib >= 0),
        parameters INTEGER CHECK (parameters >= 0),
        flops INTEGER CHECK (flops >= 0),
        isolation TEXT,
        environment_hash TEXT,
        network_hash TEXT,
        predictions_hash TEXT,
        scores_hash TEXT
    ) STRICT
    """,
    "CREATE INDEX trial_by_branch ON trial (branch)",
    """
    CREATE TABLE case_score (
        trial TEXT NOT NULL REFERENCES trial (id),
        "case" TEXT NOT NULL,
        label TEXT NOT NULL,
        metric TEXT NOT NULL CHECK (metric IN ('dice', 'hd95', 'nsd')),
        value REAL,
        reason TEXT,
        PRIMARY KEY (trial, "case", label, metric),
        CONSTRAINT "a missing value needs a reason"
            CHECK (value IS NOT NULL OR coalesce(reason, '') <> ''),
        CONSTRAINT "a score is not negative, dice and nsd are at most 1"
            CHECK (value >= 0 AND (metric = 'hd95' OR value <= 1))
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE event (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        text TEXT NOT NULL,
        figures TEXT NOT NULL,
        trial TEXT REFERENCES trial (id),
        branch TEXT REFERENCES branch (id),
        at REAL NOT NULL
    ) STRICT
    """,
    "CREATE INDEX event_by_kind ON event (kind)",
    """
    CREATE TABLE lesson (
        id TEXT PRIMARY KEY,
        layer TEXT NOT NULL CHECK (layer IN ('trial', 'branch', 'campaign', 'library')),
        text TEXT NOT NULL,
        evidence TEXT NOT NULL,
        effect REAL,
        effect_se REAL CHECK (effect_se >= 0),
        components TEXT NOT NULL,
        at REAL NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE llm_call (
        id TEXT PRIMARY KEY,
        role TEXT NOT NULL,
        model TEXT NOT NULL,
        prompt_hash TEXT NOT NULL,
        prompt TEXT NOT NULL,
        reply TEXT,
        tokens_in INTEGER CHECK (tokens_in >= 0),
        tokens_out INTEGER CHECK (tokens_out >= 0),
        price_usd REAL CHECK (price_usd >= 0),
        seconds REAL CHECK (seconds >= 0),
        at REAL NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE fact (
        key TEXT PRIMARY KEY,
        value ANY,
        text TEXT NOT NULL,
        unit TEXT NOT NULL,
        sources TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE test_access (
        id INTEGER PRIMARY KEY,
        by TEXT NOT NULL,
        why TEXT NOT NULL,
        trials TEXT NOT NULL,
        at REAL NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE claim (
        id TEXT PRIMARY KEY,
        finalist TEXT NOT NULL,
        metric TEXT NOT NULL CHECK (metric IN ('dice', 'hd95', 'nsd')),
        verdict TEXT NOT NULL CHECK (
            verdict IN (
                'better', 'better_by_margin', 'not_distinguishable', 'worse', 'exploratory'
            )
        ),
        text TEXT NOT NULL,
        trials TEXT NOT NULL,
        baseline_trials TEXT NOT NULL,
        figures TEXT NOT NULL
    ) STRICT
    """,
    "CREATE TABLE effect (key TEXT PRIMARY KEY, result TEXT NOT NULL) STRICT",
)

APPEND_ONLY = (
    "split",
    "proposal",
    "case_score",
    "event",
    "lesson",
    "llm_call",
    "test_access",
    "claim",
)

GUARDS = (
    """
    CREATE TRIGGER trial_keeps_its_choices
    BEFORE UPDATE OF id, parent, branch, proposal, "commit", kind, rung, seed, split ON trial
    BEGIN SELECT RAISE(ABORT, 'what a trial was chosen to be is never changed'); END
    """,
    """
    CREATE TRIGGER trial_is_final
    BEFORE UPDATE ON trial WHEN OLD.status NOT IN ('planned', 'running')
    BEGIN SELECT RAISE(ABORT, 'a final trial is never changed'); END
    """,
    """
    CREATE TRIGGER trial_stays
    BEFORE DELETE ON trial
    BEGIN SELECT RAISE(ABORT, 'trial rows are never deleted'); END
    """,
    """
    CREATE TRIGGER case_score_comes_before_the_end
    BEFORE INSERT ON case_score
    WHEN (SELECT status FROM trial WHERE id = NEW.trial) NOT IN ('planned', 'running')
    BEGIN SELECT RAISE(ABORT, 'a final trial gets no more scores'); END
    """,
    """
    CREATE TRIGGER branch_stays
    BEFORE DELETE ON branch
    BEGIN SELECT RAISE(ABORT, 'branch rows are never deleted'); END
    """,
    """
    CREATE TRIGGER campaign_keeps_its_data
    BEFORE UPDATE OF id, created_at, dataset, dataset_hash, split_hash ON campaign
    BEGIN SELECT RAISE(ABORT, 'the dataset and split of a campaign are never changed'); END
    """,
    """
    CREATE TRIGGER campaign_keeps_its_protocol
    BEFORE UPDATE OF protocol ON campaign
    WHEN OLD.protocol <> '{}' AND NEW.protocol <> OLD.protocol
    BEGIN SELECT RAISE(ABORT, 'a protocol is written once'); END
    """,
)

SEARCH = (
    "CREATE VIRTUAL TABLE lesson_words USING fts5 "
    "(id UNINDEXED, text, components, tokenize = 'porter unicode61')",
    "INSERT INTO lesson_words (id, text, components) SELECT id, text, components FROM lesson",
    """
    CREATE TRIGGER lesson_is_indexed AFTER INSERT ON lesson
    BEGIN
        INSERT INTO lesson_words (id, text, components)
        VALUES (NEW.id, NEW.text, NEW.components);
    END
    """,
    """
    CREATE VIEW search_trial AS
    SELECT * FROM trial WHERE split <> 'locked-test' AND kind <> 'confirm'
    """,
    """
    CREATE VIEW search_score AS
    SELECT case_score.* FROM case_score JOIN search_trial ON search_trial.id = case_score.trial
    """,
)

SETUP = (
    "ALTER TABLE trial ADD COLUMN batch_size INTEGER CHECK (batch_size >= 1)",
    "ALTER TABLE trial ADD COLUMN checkpointing INTEGER CHECK (checkpointing IN (0, 1))",
    "ALTER TABLE trial ADD COLUMN start TEXT CHECK (start IN ('cold', 'warm'))",
    "ALTER TABLE trial ADD COLUMN cpu_seconds REAL CHECK (cpu_seconds >= 0)",
    """
    CREATE TRIGGER trial_keeps_its_batch BEFORE UPDATE OF batch_size ON trial
    BEGIN SELECT RAISE(ABORT, 'what a trial was chosen to be is never changed'); END
    """,
)

# A log and no column of trial: an update of a row that has just become final would be refused.
CHANGES = (
    """
    CREATE TABLE trial_change (
        id INTEGER PRIMARY KEY,
        trial TEXT NOT NULL REFERENCES trial (id)
    ) STRICT
    """,
    "INSERT INTO trial_change (trial) SELECT id FROM trial ORDER BY rowid",
    """
    CREATE TRIGGER trial_is_new AFTER INSERT ON trial
    BEGIN INSERT INTO trial_change (trial) VALUES (NEW.id); END
    """,
    """
    CREATE TRIGGER trial_is_changed AFTER UPDATE ON trial
    BEGIN INSERT INTO trial_change (trial) VALUES (NEW.id); END
    """,
    """
    CREATE TRIGGER trial_change_forbids_update BEFORE UPDATE ON trial_change
    BEGIN SELECT RAISE(ABORT, 'trial_change rows are append-only'); END
    """,
    """
    CREATE TRIGGER trial_change_forbids_delete BEFORE DELETE ON trial_change
    BEGIN SELECT RAISE(ABORT, 'trial_change rows are append-only'); END
    """,
    "CREATE INDEX trial_by_kind ON trial (kind)",
    # With the trial in it, an event's figures (kilobytes each) need not be read to know its trial.
    "DROP INDEX event_by_kind",
    "CREATE INDEX event_by_kind ON event (kind, id, trial)",
)

SELECTION = (
    "ALTER TABLE trial ADD COLUMN fold INTEGER NOT NULL DEFAULT 0 CHECK (fold >= 0)",
    """
    CREATE TRIGGER trial_keeps_its_fold BEFORE UPDATE OF fold ON trial
    BEGIN SELECT RAISE(ABORT, 'what a trial was chosen to be is never changed'); END
    """,
)
# Values that a CHECK of migration 1 allows from now on: table, a text of it, the text instead.
ALLOWED = (
    ("trial", "'ablate', 'confirm'", "'ablate', 'select', 'confirm'"),
    ("claim", "'better_by_margin', ", "'better_by_margin', 'not_worse_and_cheaper', "),
)

# What a planner with a language model adds to a proposal, and what its calls were made for.
LANGUAGE = (
    "ALTER TABLE proposal ADD COLUMN detail TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE llm_call ADD COLUMN endpoint TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE llm_call ADD COLUMN purpose TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE llm_call ADD COLUMN scope TEXT NOT NULL DEFAULT ''",
    """
    ALTER TABLE llm_call
    ADD COLUMN is_cached INTEGER NOT NULL DEFAULT 0 CHECK (is_cached IN (0, 1))
    """,
    "ALTER TABLE llm_call ADD COLUMN error TEXT",
    "CREATE INDEX llm_call_by_scope ON llm_call (scope)",
    "CREATE INDEX llm_call_by_prompt ON llm_call (prompt_hash)",
)
