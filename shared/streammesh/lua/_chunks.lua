-- What handlers stream to clients: where it lies beside its task's row, and who is told that it goes on.
--#include _time.lua
local function chunks_of(row, name)
  return (string.gsub(row, '}:task:', '}:chunks:', 1)) .. ':' .. name
end

-- Has the streams of a task leave with its row, in `ms`.
local function keep_chunks(row, names, ms)
  for name in string.gmatch(string.sub(names, 1, 2048), '%S+') do
    redis.call('PEXPIRE', chunks_of(row, name), digits(ms))
  end
end

-- Rings for whoever follows a stream of the task. Where Redis does not allow that, they look now and then.
local function ring_chunks(row, task)
  redis.pcall('PUBLISH', string.gsub(row, '}:task:.*$', '}:chunks-written', 1), task)
end

local function end_chunks(row, names, ms, task)
  keep_chunks(row, names, ms)
  ring_chunks(row, task)
end
