#!lua flags=allow-oom
-- Notes what an operator did. An action is noted when it begins, and again with its outcome in place of that.
-- KEYS audit (STREAM)
-- ARGS begun (position of the entry that stands for its beginning, '' where there is none), action (JSON),
--   kept (most entries, about)
-- Returns the position of the entry.
if begun ~= '' then redis.call('XDEL', audit, begun) end
return redis.call('XADD', audit, 'MAXLEN', '~', kept, '*', 'a', action)
