// What openapi-generator's typescript-fetch makes from the API document, against a running server: an application, an
// endpoint, a message, a list, and errors with their bodies.
import { ApplicationApi, Configuration, EndpointApi, ErrorOut, ErrorOutFromJSON, MessageApi, ResponseError } from "./client";

declare const process: { env: Record<string, string>; exit(code: number): never };

const configuration = new Configuration({
  basePath: process.env.POSTRIDER_URL,
  accessToken: process.env.POSTRIDER_TOKEN,
});
const applications = new ApplicationApi(configuration);
const endpoints = new EndpointApi(configuration);
const messages = new MessageApi(configuration);

function check(holds: boolean, what: unknown): void {
  if (!holds) throw new Error(JSON.stringify(what));
}

async function refused(call: Promise<unknown>): Promise<[number, ErrorOut]> {
  try {
    await call;
  } catch (error) {
    if (error instanceof ResponseError) return [error.response.status, ErrorOutFromJSON(await error.response.json())];
    throw error;
  }
  throw new Error("it was not refused");
}

async function main(): Promise<void> {
  const application = await applications.v1ApplicationCreateRaw({ applicationIn: { name: "Made by TypeScript" } });
  const appId = (await application.value()).id;
  console.log(`typescript: application ${appId}, ${application.raw.status}`);

  const endpointIn = { url: "https://webhooks.example/typescript", disabled: true };
  const endpoint = await endpoints.v1EndpointCreateRaw({ appId, endpointIn });
  console.log(`typescript: endpoint ${(await endpoint.value()).id}, ${endpoint.raw.status}`);

  const messageIn = { eventType: "order.paid", payload: { total: 1.1 } };
  const message = await messages.v1MessageCreateRaw({ appId, messageIn });
  const sent = await message.value();
  console.log(`typescript: message ${sent.id}, ${message.raw.status}`);

  const page = await messages.v1MessageList({ appId, limit: 10 });
  check(page.done && page.data.length === 1 && page.data[0].id === sent.id, page);
  check(page.data[0].timestamp.getTime() === sent.timestamp.getTime(), page);
  console.log(`typescript: list of ${page.data.length}`);

  const [unknown, missing] = await refused(applications.v1ApplicationGet({ appId: "unknown" }));
  check(unknown === 404 && typeof missing.detail === "string", missing);
  console.log(`typescript: 404 ${missing.code}: ${missing.detail}`);

  const [invalid, error] = await refused(messages.v1MessageList({ appId, iterator: "nonsense" }));
  check(invalid === 422 && Array.isArray(error.detail), error);
  if (Array.isArray(error.detail)) {
    console.log(`typescript: 422 ${error.code}: ${error.detail[0].loc.join(".")}: ${error.detail[0].msg}`);
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
