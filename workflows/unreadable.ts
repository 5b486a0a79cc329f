/** An argument whose payload is in an encoding that is not read here, or not what its encoding says. */
export class Unreadable {
  /** As the payload names it: any text, empty where it names none. */
  readonly encoding: string;

  constructor(encoding: string) {
    this.encoding = encoding;
  }
}
