#!lua flags=allow-oom
-- Moves what lies under a key and has another type than the key should have out of the way, so that the mesh makes it
-- anew; nothing is destroyed. What was set aside before under the same name is replaced.
-- KEYS[1], KEYS[2] and on, in pairs: a key, and where it goes
-- ARGV[1] how long it is kept there, ms; then per pair: the type that it should have
-- Returns what was moved: {key, the type that it had}, ...
local moved = {}
for i = 1, #KEYS, 2 do
  local is = redis.call('TYPE', KEYS[i]).ok
  if is ~= 'none' and is ~= ARGV[1 + (i + 1) / 2] then
    redis.call('RENAME', KEYS[i], KEYS[i + 1])
    redis.call('PEXPIRE', KEYS[i + 1], ARGV[1])
    moved[#moved + 1] = { KEYS[i], is }
  end
end
return moved
