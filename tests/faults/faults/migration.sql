-- What a newer version may do to the schema while this one runs on it: the fault fills in a number and a type.
-- It runs as one transaction.

ALTER TABLE webhook.endpoints ADD COLUMN added_{number} text NOT NULL DEFAULT 'new';
ALTER TABLE webhook.events ADD COLUMN added_{number} bigint;
ALTER TABLE webhook.deliveries ADD COLUMN added_{number} text NOT NULL DEFAULT 'new';
ALTER TABLE webhook.deliveries_history ADD COLUMN added_{number} text NOT NULL DEFAULT 'new';
ALTER TABLE webhook.attempts ADD COLUMN added_{number} bigint;
CREATE INDEX deliveries_added_{number} ON webhook.deliveries (tenant, added_{number});
CREATE TABLE webhook.added_{number} (id uuid PRIMARY KEY);

-- Every function is made anew, as it is.
DO $$
DECLARE
    function text;
BEGIN
    FOR function IN
        SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'webhook'::regnamespace
    LOOP
        EXECUTE function;
    END LOOP;
END
$$;

-- A column that statements return.
ALTER TABLE webhook.events ALTER COLUMN tenant TYPE {text};

INSERT INTO webhook.migrations (version) VALUES (1000 + {number});
