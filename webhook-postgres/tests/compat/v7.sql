-- The life of an event by the statements of version 7, prepared under the names of their files: its first
-- attempt fails, the second succeeds.
EXECUTE insert_endpoint(
    '018bcfe5-6800-7000-8000-00000000000e', 'default', 'https://hooks.example.com/', '{}',
    '{"signing":[{"key":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}]}', '{}', '{}', 'enabled', NULL, 1,
    '2023-11-14 22:13:20Z', '2023-11-14 22:13:20Z'
);
EXECUTE insert_events(
    '2023-11-14 22:13:20Z', '{018bcfe5-6800-7000-8000-000000000001}', '{default}', '{order.paid}',
    ARRAY['{"type":"order.paid","timestamp":"2023-11-14T22:13:20.000000Z","data":7}'::bytea],
    '{2023-11-14 22:13:20Z}', '{NULL}', '{\\x018bcfe56800}', '{}', '{}', '{}', 30000000, '{NULL}'
);
EXECUTE claim('2023-11-14 22:13:20Z', 10, 30000000, '', '{}', '{}', '{}', '{}', 32, 10);
EXECUTE load(
    '2023-11-14 22:13:20Z', '{018bcfe5-6800-7826-9a51-03993661bd7c}', '{1}', '{2023-11-14 22:13:50Z}'
);
EXECUTE record(
    '2023-11-14 22:13:21Z', '{018bcfe5-6800-7826-9a51-03993661bd7c}', '{1}', '{pending}', '{NULL}', '{1000000}', '{http_503}',
    '{2023-11-14 22:13:20Z}', '{1000}', '{1000}', '{""}', '{503}', '{NULL}', '{""}', '{""}', '{false}', '{NULL}'
);
EXECUTE wake('2023-11-14 22:13:22Z', 1000);
EXECUTE claim('2023-11-14 22:13:22Z', 10, 30000000, '', '{}', '{}', '{}', '{}', 32, 10);
EXECUTE load(
    '2023-11-14 22:13:22Z', '{018bcfe5-6800-7826-9a51-03993661bd7c}', '{2}', '{2023-11-14 22:13:52Z}'
);
EXECUTE record(
    '2023-11-14 22:13:23Z', '{018bcfe5-6800-7826-9a51-03993661bd7c}', '{2}', '{succeeded}', '{NULL}', '{NULL}', '{NULL}',
    '{2023-11-14 22:13:22Z}', '{1000}', '{1000}', '{""}', '{200}', '{NULL}', '{""}', '{""}', '{false}', '{NULL}'
);
