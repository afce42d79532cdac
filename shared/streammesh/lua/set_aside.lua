#!lua flags=allow-oom
-- Moves what lies under a key and has another type than the key should have out of the way, so that the mesh makes it
-- anew; nothing is destroyed. What was set aside before under the same name is replaced.
-- ARGS lifetime (how long what was set aside is kept, ms)
-- misplaced: KEYS key (ANY), aside (ANY, where it goes) ARGS kind (the type that it should have)
-- Returns what was moved: {key, the type that it had}, ...
local moved = {}
for _, one in ipairs(misplaced) do
  local is = redis.call('TYPE', one.key).ok
  if is ~= 'none' and is ~= one.kind then
    redis.call('RENAME', one.key, one.aside)
    redis.call('PEXPIRE', one.aside, lifetime)
    moved[#moved + 1] = { one.key, is }
  end
end
return moved
