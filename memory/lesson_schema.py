"""The SQL of the migrations that make lessons what recall reads; never edited once released."""

# What recall needs of a lesson. Its counts may change, and one of another campaign may go again:
# the two triggers that are dropped forbade both.
LESSONS = (
    """
    ALTER TABLE lesson ADD COLUMN kind TEXT NOT NULL DEFAULT 'finding'
    CHECK (kind IN ('finding', 'failure', 'effect', 'dead_end', 'question'))
    """,
    """
    ALTER TABLE lesson
    ADD COLUMN conditions TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(conditions))
    """,
    "ALTER TABLE lesson ADD COLUMN support INTEGER NOT NULL DEFAULT 1 CHECK (support >= 0)",
    "ALTER TABLE lesson ADD COLUMN contra INTEGER NOT NULL DEFAULT 0 CHECK (contra >= 0)",
    """
    ALTER TABLE lesson ADD COLUMN source TEXT NOT NULL DEFAULT ''
    CONSTRAINT "a lesson of another campaign is of the library"
        CHECK (source = '' OR layer = 'library')
    """,
    "DROP TRIGGER lesson_forbids_update",
    "DROP TRIGGER lesson_forbids_delete",
    """
    CREATE TRIGGER lesson_forbids_update
    BEFORE UPDATE OF
        id, layer, text, evidence, effect, effect_se, components, at, kind, conditions, source
    ON lesson
    BEGIN SELECT RAISE(ABORT, 'lesson rows are append-only'); END
    """,
    """
    CREATE TRIGGER lesson_forbids_delete BEFORE DELETE ON lesson WHEN OLD.source = ''
    BEGIN SELECT RAISE(ABORT, 'lesson rows are append-only'); END
    """,
    # Made anew with the layer, which recall needs of a thousand matches without reading each lesson.
    "DROP TRIGGER lesson_is_indexed",
    "DROP TABLE lesson_words",
    "CREATE VIRTUAL TABLE lesson_words USING fts5 "
    "(id UNINDEXED, layer UNINDEXED, text, components, tokenize = 'porter unicode61')",
    """
    INSERT INTO lesson_words (id, layer, text, components)
    SELECT id, layer, text, components FROM lesson ORDER BY rowid
    """,
    """
    CREATE TRIGGER lesson_is_indexed AFTER INSERT ON lesson
    BEGIN
        INSERT INTO lesson_words (id, layer, text, components)
        VALUES (NEW.id, NEW.layer, NEW.text, NEW.components);
    END
    """,
    """
    CREATE TRIGGER lesson_is_indexed_no_more AFTER DELETE ON lesson
    BEGIN DELETE FROM lesson_words WHERE id = OLD.id; END
    """,
    """
    CREATE TRIGGER lesson_cites_a_trial BEFORE INSERT ON lesson
    WHEN json_array_length(NEW.evidence) = 0
    BEGIN SELECT RAISE(ABORT, 'a lesson cites the trials that it rests on'); END
    """,
    """
    CREATE TRIGGER lesson_cites_no_stranger BEFORE INSERT ON lesson
    WHEN NEW.source = '' AND EXISTS (
        SELECT 1 FROM json_each(NEW.evidence) AS cited
        WHERE NOT EXISTS (SELECT 1 FROM trial WHERE trial.id = cited.value)
    )
    BEGIN SELECT RAISE(ABORT, 'a lesson cites a trial that is not there'); END
    """,
    """
    CREATE TRIGGER lesson_comes_from_elsewhere BEFORE INSERT ON lesson
    WHEN NEW.source IN (SELECT id FROM campaign)
    BEGIN SELECT RAISE(ABORT, 'a campaign imports no lesson of its own'); END
    """,
    # Imported lessons cite trials of their own campaign: unknown here, and never hidden ones.
    """
    CREATE VIEW search_lesson AS
    SELECT * FROM lesson
    WHERE json_array_length(evidence) > 0 AND NOT EXISTS (
        SELECT 1 FROM json_each(lesson.evidence) AS cited
        LEFT JOIN search_trial ON search_trial.id = cited.value
        WHERE search_trial.id IS NULL AND (
            lesson.source = '' OR EXISTS (SELECT 1 FROM trial WHERE trial.id = cited.value)
        )
    )
    """,
    """
    CREATE INDEX lesson_by_weight ON lesson (
        layer, (support + 1.0) / (support + contra + 2) DESC, abs(coalesce(effect, 0)) DESC, id
    )
    """,
    """
    CREATE TABLE lesson_vector (
        id INTEGER PRIMARY KEY,
        lesson TEXT NOT NULL REFERENCES lesson (id) ON DELETE CASCADE,
        model TEXT NOT NULL,
        vector BLOB NOT NULL,
        UNIQUE (lesson, model)
    ) STRICT
    """,
)

# A lesson that is brought up to date is another row: the one before it stays, and is told no more.
TOPICS = (
    "ALTER TABLE lesson ADD COLUMN topic TEXT NOT NULL DEFAULT ''",
    """
    ALTER TABLE lesson
    ADD COLUMN is_replaced INTEGER NOT NULL DEFAULT 0 CHECK (is_replaced IN (0, 1))
    """,
    "CREATE INDEX lesson_by_topic ON lesson (topic, layer, source) WHERE topic <> ''",
    """
    CREATE TRIGGER lesson_keeps_topic BEFORE UPDATE OF topic ON lesson
    BEGIN SELECT RAISE(ABORT, 'lesson rows are append-only'); END
    """,
    "CREATE INDEX lesson_by_kind ON lesson (kind, layer) WHERE is_replaced = 0",
    # The index of words holds what is told, under the rowid of its lesson: one that was replaced
    # would take the places of others.
    "DROP TRIGGER lesson_is_indexed",
    "DROP TRIGGER lesson_is_indexed_no_more",
    "DELETE FROM lesson_words",
    """
    INSERT INTO lesson_words (rowid, id, layer, text, components)
    SELECT rowid, id, layer, text, components FROM lesson ORDER BY rowid
    """,
    """
    CREATE TRIGGER lesson_is_indexed AFTER INSERT ON lesson WHEN NEW.is_replaced = 0
    BEGIN
        INSERT INTO lesson_words (rowid, id, layer, text, components)
        VALUES (NEW.rowid, NEW.id, NEW.layer, NEW.text, NEW.components);
    END
    """,
    """
    CREATE TRIGGER lesson_is_indexed_again AFTER UPDATE OF is_replaced ON lesson
    WHEN OLD.is_replaced = 1 AND NEW.is_replaced = 0
    BEGIN
        INSERT INTO lesson_words (rowid, id, layer, text, components)
        VALUES (NEW.rowid, NEW.id, NEW.layer, NEW.text, NEW.components);
    END
    """,
    """
    CREATE TRIGGER lesson_is_replaced AFTER UPDATE OF is_replaced ON lesson
    WHEN OLD.is_replaced = 0 AND NEW.is_replaced = 1
    BEGIN DELETE FROM lesson_words WHERE rowid = OLD.rowid; END
    """,
    """
    CREATE TRIGGER lesson_is_indexed_no_more AFTER DELETE ON lesson WHEN OLD.is_replaced = 0
    BEGIN DELETE FROM lesson_words WHERE rowid = OLD.rowid; END
    """,
    "DROP VIEW search_lesson",
    """
    CREATE VIEW search_lesson AS
    SELECT * FROM lesson
    WHERE is_replaced = 0 AND json_array_length(evidence) > 0 AND NOT EXISTS (
        SELECT 1 FROM json_each(lesson.evidence) AS cited
        LEFT JOIN search_trial ON search_trial.id = cited.value
        WHERE search_trial.id IS NULL AND (
            lesson.source = '' OR EXISTS (SELECT 1 FROM trial WHERE trial.id = cited.value)
        )
    )
    """,
)

# Lessons that are told, by the components that they are about.
PARTS = ("CREATE INDEX lesson_by_parts ON lesson (layer, components, id) WHERE is_replaced = 0",)
