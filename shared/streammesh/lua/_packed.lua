-- Queue entries of tasks that wait long, in as few bytes as may be: what nearly all of them hold is one byte. JSON has no
-- control characters, so what is written is exactly what is read; text that has some is not packed. Codes are never given
-- to other text: entries may wait for a year. Who does not know this form queues the task from its event.
local PACKED = {
  { '\1', '{"headers":{"lang":"py","task":"' },
  { '\2', '","shadow":null,"eta":null,"expires":null,"group":null,"group_index":null,"retries":0,"timelimit":[null,null],"root_id":"' },
  { '\3', '","parent_id":null,"argsrepr":"<event>","kwargsrepr":"{}","origin":"' },
  { '\4', '","ignore_result":true,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{}},"properties":{"correlation_id":"' },
  { '\5', '","reply_to":"","delivery_mode":2,"delivery_info":{"exchange":"","routing_key":"' },
  { '\6', '},"content-type":"application/json","content-encoding":"utf-8"}' },
  { '\7', '}], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]' },
  { '\14', '[[{"specversion":"1.0","id":"' },
  { '\15', '","source":"' },
  { '\16', '","time":"' },
}

local function replaced(text, from, to)
  local out, at = {}, 1
  while true do
    local first, last = string.find(text, from, at, true)
    if not first then break end
    out[#out + 1] = string.sub(text, at, first - 1) .. to
    at = last + 1
  end
  return table.concat(out) .. string.sub(text, at)
end

-- The entry as it waits, for a queue whose key ends so; nothing where it cannot be packed.
local function packed(task, queue, h, b)
  local text = h .. b
  if string.find(text, '%c') then return nil end
  text = h .. '\n' .. b
  for _, pair in ipairs(PACKED) do text = replaced(text, pair[2], pair[1]) end
  return 'P' .. queue .. '\n' .. replaced(text, task, '\17')
end

-- How its queue's key ends, h and b; nothing where it is none.
local function unpacked(task, value)
  local queue, h, b = string.match(value or '', '^P(%C+)\n([^\n]*)\n([^\n]*)$')
  if not queue then return nil end
  local text = replaced(h .. '\n' .. b, '\17', task)
  for _, pair in ipairs(PACKED) do text = replaced(text, pair[1], pair[2]) end
  h, b = string.match(text, '^([^\n]*)\n(.*)$')
  return queue, h, b
end
